"""How the output of W_O gets into the residual stream: mostly unchanged, in some decoders through a norm, in
others times a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from anamnesis.core.errors import given


@dataclass(frozen=True)
class Writing:
    """``norms[l]``: the norm between W_O of layer l and the stream, None without; ``gains[l]``: what is
    multiplied with what is then added, a (hidden_size,) tensor, None for 1.
    """

    norms: tuple[nn.Module | None, ...]
    gains: tuple[torch.Tensor | None, ...]

    @property
    def normed(self) -> bool:
        return any(norm is not None for norm in self.norms)

    def into_stream(self, layer: int, attended: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        """What of ``attended`` (..., hidden_size), a part of the output of W_O, the layer adds to the stream.

        A norm does not map a sum to a sum, so it is taken as the factors it had on average over prompts:
        ``scale`` (n_layers, hidden_size), see :func:`captured_scales`. Raises ValueError where they are
        needed and not given.
        """
        if self.normed:
            if scale is None:
                raise ValueError("a model with a norm behind W_O needs the scale that it had on the prompts")
            attended = attended * scale[layer].to(attended)
        gain = self.gains[layer]
        return attended if gain is None else attended * gain.to(attended)


@contextmanager
def captured_scales(writing: Writing, rows: Sequence[int]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with one (len(rows), hidden_size) tensor per layer: what the norm behind W_O
    multiplies each entry with. Empty for a model without such norms.
    """
    captured: list[torch.Tensor] = []
    index = torch.as_tensor(rows, dtype=torch.long)

    def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        places = index.to(output.device)
        captured.append(factors(args[0][0, places], output[0, places]).cpu())

    with ExitStack() as stack:
        for norm in writing.norms if writing.normed else ():
            stack.callback(given(norm, "a norm in every layer").register_forward_hook(hook).remove)
        yield captured


def factors(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """after / before in float32, 1 where both are 0."""
    before, after = before.float(), after.float()
    return torch.where(before == 0, 1.0, after / torch.where(before == 0, 1.0, before))


@dataclass
class _Part:
    """What is seen of one layer. ``sum``: what has become of W_O's output so far; ``norm``: the module that
    changed it; ``hidden``: what leaves the layer.
    """

    sum: torch.Tensor | None = None
    norm: nn.Module | None = None
    hidden: torch.Tensor | None = None


class _Watch:
    """Hooks of all modules that leave only the way of W_O's output into the stream with a gradient."""

    def __init__(self, blocks: Sequence[nn.Module], projections: Sequence[nn.Module]):
        self.layers = {block: layer for layer, block in enumerate(blocks)}
        self.projections = projections
        self.parts = [_Part() for _ in blocks]
        self.now: int | None = None  # the layer that is being run

    def enter(self, module: nn.Module, args: tuple) -> None:
        self.now = self.layers.get(module, self.now)

    def leave(self, module: nn.Module, args: tuple, output: Any) -> Any:
        if self.now is None:
            return None
        part = self.parts[self.now]
        if self.layers.get(module) == self.now:
            return self._end(part, output)
        if not isinstance(output, torch.Tensor):
            return None
        if module is self.projections[self.now]:
            return self._start(part, output)
        if part.sum is None or next(module.children(), None) is not None:
            return None
        if not (args and isinstance(args[0], torch.Tensor) and args[0].shape == output.shape):
            return output.detach()
        if args[0].shape != part.sum.shape or not torch.equal(args[0], part.sum):
            return output.detach()
        if torch.equal(output, args[0]):  # dropout
            return None
        part.norm = module
        return self._start(part, output)

    def _start(self, part: _Part, output: torch.Tensor) -> torch.Tensor:
        part.sum = output.detach().requires_grad_()
        return part.sum.clone()  # some layers add in place

    def _end(self, part: _Part, output: Any) -> Any:
        part.hidden, self.now = output[0] if isinstance(output, tuple) else output, None
        cut = part.hidden.detach()
        return (cut, *output[1:]) if isinstance(output, tuple) else cut


def find_writing(
    blocks: Sequence[nn.Module], projections: Sequence[nn.Module], run: Callable[[], object]
) -> Writing:
    """Watch a forward pass ``run()`` of one token: the norm is the module that takes W_O's output and returns
    another one of its size; the gain is the derivative of what leaves the layer, with all else in it fixed.

    In a layer whose stream itself is normed behind the sum (post-norm) the gain is taken as 1.
    """
    watch, registry = _Watch(blocks, projections), nn.modules.module
    with ExitStack() as stack:
        stack.callback(registry.register_module_forward_pre_hook(watch.enter).remove)
        stack.callback(registry.register_module_forward_hook(watch.leave).remove)
        with torch.enable_grad():
            run()
            gains = tuple(map(_gain, watch.parts))
    return Writing(tuple(part.norm for part in watch.parts), gains)


def _gain(part: _Part) -> torch.Tensor | None:
    if part.sum is None or part.hidden is None:
        return None
    if not part.hidden.requires_grad or part.hidden.shape != part.sum.shape:
        return None
    (slope,) = torch.autograd.grad(part.hidden.sum(), part.sum, allow_unused=True)
    if slope is None or not slope.any() or (slope == 1).all():
        return None
    return slope.flatten().float().cpu()
