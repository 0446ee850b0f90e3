"""Products of float32 rows with frozen weights, by the library that is faster on this processor.

torch asks Intel's MKL for them. On processors of AMD oneDNN, which torch carries too, takes less time
(``benchmarks/products.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd import Function

_torch_linear = nn.functional.linear


def _is_faster() -> bool:
    """Whether this is a processor of AMD, and torch has oneDNN."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return amd and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


ONEDNN = _is_faster()


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.nn.functional.linear``: x (..., in), weight (out, in), bias (out) -> (..., out). Gradients flow
    to ``x``, also twice.
    """
    if not (ONEDNN and _is_plain(x) and _is_frozen(weight) and (bias is None or _is_frozen(bias))):
        return _torch_linear(x, weight, bias)
    if x.requires_grad and torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def by_columns(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, weight) of each linear layer of ``model``, the weight column after column in memory: from there
    oneDNN multiplies a few hundred rows faster. None where torch multiplies, and none that an embedding
    shares, which is read by rows.
    """
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, layer in model.named_modules() if ONEDNN else ():
        if type(layer) is nn.Linear and id(layer.weight) not in shared and _is_plain(layer.weight):
            yield name, layer.weight.detach().t().contiguous().t()


@contextmanager
def fast_products() -> Iterator[None]:
    """Linear layers of any model use :func:`linear` inside."""
    before = nn.functional.linear
    nn.functional.linear = linear  # type: ignore[assignment]  # its layers give no names
    try:
        yield
    finally:
        nn.functional.linear = before


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple:
        (weight,) = ctx.saved_tensors
        return linear(gradients[0], weight.t()), None, None


def _is_plain(x: torch.Tensor) -> bool:
    """Whether these are numbers in memory, at least one, and of no other kind of tensor."""
    known = type(x) in (torch.Tensor, nn.Parameter) and x.device.type == "cpu" and x.dtype == torch.float32
    return known and x.numel() > 0 and not torch.is_autocast_enabled("cpu")


def _is_frozen(weight: torch.Tensor) -> bool:
    """In all modes alike: a model and its copy that is a teacher have to give the same numbers."""
    return _is_plain(weight) and not weight.requires_grad
