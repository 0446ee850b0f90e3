"""Tokens that all trees of a pack begin with, run once below a layer and for each tree from it on.

For models in which prompts have weights of their own from some layer on: below it, equal beginnings give
equal hidden states.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from anamnesis.engine.attention import Call, ForestLayout
from anamnesis.engine.branch_rows import spread
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.pack import Pack, Tree


class WideningLayout:
    """Attention of ``wide``, whose trees' first ``shared`` tokens are the same and run once below ``layer``.

    The model is given the row of ``narrow``, inside :func:`widened`. What ``wide`` records, it records as if
    its own row had gone through all layers. ``source`` (tokens of the wide row): the narrow row's token that
    each one is.
    """

    def __init__(self, wide: ForestLayout, shared: int, layer: int):
        self.wide, self.layer = wide, layer
        prefix = tuple(wide.pack.trees[0].trunk[:shared])
        self.narrow = Pack(tuple(Tree(t.trunk[shared:], t.branches, prefix) for t in wide.pack.trees))
        self.below = ForestLayout(self.narrow, wide.device, attention=type(wide.static))
        rows: list[int] = []
        for start, tree in zip(self.narrow.starts, self.narrow.trees, strict=True):
            rows += [*range(shared), *range(start, start + tree.size)]
        self.source = torch.tensor(rows, device=wide.device)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        if call.layer >= self.layer:
            return self.wide.attend(query, key, value, call)
        if self.wide.record:
            source = self.source.to(key.device)
            self.wide.keys.append(key[:, source])
            self.wide.values.append(value[:, source])
        return self.below.attend(query, key, value, call)


@contextmanager
def widened(geometry: HeadGeometry, layout: WideningLayout) -> Iterator[None]:
    """Spread what enters the layer, and the per-token arguments of all from it on, over the wide row."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        narrow = layout.narrow.size
        return (
            tuple(spread(a, narrow, layout.source) for a in args),
            {name: spread(a, narrow, layout.source) for name, a in kwargs.items()},
        )

    handles = [b.register_forward_pre_hook(hook, with_kwargs=True) for b in geometry.blocks[layout.layer :]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
