"""Counting the operations of what runs. torch's counter leaves out attention and oneDNN on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def _attention(query, key, value, dropout_p=0.0, is_causal=False, *_, out_shape=None, **__) -> int:
    return sdpa_flop_count(query, key, value) // (2 if is_causal else 1)


def _attention_backward(
    gradient, query, key, value, out, logsumexp, dropout_p, is_causal, *_, out_shape=None, **__
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value) // (2 if is_causal else 1)


def _product(x, weight, *_, out_shape=None, **__) -> int:
    return 2 * prod(x) * weight[0]


ON_CPU = {
    torch.ops.mkldnn._linear_pointwise: _product,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def operation_counter() -> FlopCounterMode:
    """A context in which operations are counted; causal attention for half, as that is what is computed."""
    return FlopCounterMode(display=False, custom_mapping=ON_CPU)


def operations(run: Callable[[], object]) -> float:
    """Floating-point operations of ``run``."""
    with operation_counter() as counter:
        run()
    return float(counter.get_total_flops())
