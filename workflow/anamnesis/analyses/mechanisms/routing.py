"""Mixtures of experts: how many tokens go to which expert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


def routers(model: nn.Module) -> list[tuple[nn.Module, int]]:
    """The routers of a model, each with the place of its scores in what it returns; none without experts.

    They are those whose scores transformers' class of the model, or of its decoder, says it can record.
    """
    said = (getattr(module, "_can_record_outputs", None) or {} for module in model.modules())
    recorder = next((found["router_logits"] for found in said if "router_logits" in found), None)
    if recorder is None:
        return []
    kind, index = getattr(recorder, "target_class", recorder), getattr(recorder, "index", 0)
    return [(module, index) for module in model.modules() if isinstance(module, kind)]


@contextmanager
def routed(found: Sequence[tuple[nn.Module, int]]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with an (n_tokens, n_experts) tensor for each router: 1 where a token goes."""
    chosen: list[torch.Tensor] = []

    def hook_for(index: int):
        def hook(module, args, output):
            scores = output[index] if isinstance(output, tuple) else output
            scores = scores.detach().flatten(0, -2)
            best = scores.topk(module.top_k, dim=-1).indices
            chosen.append(torch.zeros_like(scores).scatter_(1, best, 1.0).cpu())

        return hook

    with ExitStack() as stack:
        for module, index in found:
            stack.callback(module.register_forward_hook(hook_for(index)).remove)
        yield chosen
