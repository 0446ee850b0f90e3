"""Attention of a pack's trees as one call of torch's FlexAttention.

The whole row is one sequence, and a block mask says who sees whom. Blocks of 128 x 128 scores in which
nothing is seen are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from anamnesis.engine.attention import Call, GroupedTrees
from anamnesis.engine.pack import Pack

NARROWEST = 16  # head_dim: the GPU kernel refuses narrower heads (torch/_inductor/kernel/flex)

Sees = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class FlexTrees(GroupedTrees):
    """Attention of a pack's trees by FlexAttention; in groups where :func:`flex_covers` says no."""

    def __init__(self, pack: Pack):
        super().__init__(pack)
        self._block_masks: dict[tuple[int | None, torch.device], BlockMask] = {}

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        if not flex_covers(query, key, value, call):
            return super().attend(query, key, value, call)
        cached = self.pack.cached
        if cached is not None:
            key = torch.cat([cached.keys[call.layer].to(key), key], 1)
            value = torch.cat([cached.values[call.layer].to(value), value], 1)
        attend, _ = _functions(query.device.type)
        out = attend(
            query[None],
            key[None],
            value[None],
            score_mod=None if call.softcap is None else _capped(call.softcap),
            block_mask=self._block_mask(call.window, query.device),
            scale=call.scale,
            enable_gqa=query.shape[0] != key.shape[0],
        )
        return out[0].transpose(0, 1)

    def _block_mask(self, window: int | None, device: torch.device) -> BlockMask:
        if (window, device) not in self._block_masks:
            before = self.pack.cached.length if self.pack.cached else 0
            _, create = _functions(device.type)
            self._block_masks[window, device] = create(
                visible(self.pack, window, device),
                B=None,
                H=None,
                Q_LEN=self.pack.size,
                KV_LEN=before + self.pack.size,
                device=device,
            )
        return self._block_masks[window, device]


def flex_covers(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> bool:
    """Whether FlexAttention computes this: no sinks, no dropout; on a GPU only wide heads, on a CPU no
    gradient; no other device.
    """
    if call.sinks is not None or call.dropout > 0:
        return False
    if query.is_cuda:
        return min(query.shape[-1], value.shape[-1]) >= NARROWEST
    return query.device.type == "cpu" and not any(x.requires_grad for x in (query, key, value))


def visible(pack: Pack, window: int | None, device: torch.device) -> Sees:
    """The ``mask_mod`` of a pack: whether token q of the row sees key k, where the keys of the cached prefix
    come first.
    """
    before = pack.cached.length if pack.cached else 0
    numbers = {prefix: number for number, prefix in enumerate(pack.prefixes)}
    # A key is seen up to the end of its branch; one in a trunk, of its tree; a cached one, of the row.
    end = torch.full((before + pack.size,), before + pack.size)
    prefix_of = torch.full_like(end, -1)  # the prefix that a key belongs to
    continues = torch.full((pack.size,), -2)  # the prefix that a token's tree continues
    for prefix, rows in pack.prefixes.items():
        end[before + rows.start : before + rows.stop] = before + rows.stop
        prefix_of[before + rows.start : before + rows.stop] = numbers[prefix]
    for tree, start in zip(pack.trees, pack.starts, strict=True):
        continues[start : start + tree.size] = numbers.get(tree.prefix, -2)
        at = before + start
        end[at : at + tree.size] = at + tree.size
        at += len(tree.trunk)
        for branch in tree.branches:
            end[at : at + len(branch)] = at + len(branch)
            at += len(branch)
    place = before + torch.arange(pack.size)  # of a token among the keys
    position = torch.cat([torch.arange(before), pack.positions])
    # Tensors only: a number would be compiled in, and every pack compiled anew.
    lowest = torch.zeros_like(place) if window is None else pack.positions - window + 1
    end, prefix_of, continues, place, position, lowest = (
        x.to(device) for x in (end, prefix_of, continues, place, position, lowest)
    )

    def sees(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        path = (k <= place[q]) & (place[q] < end[k])
        return (path | (prefix_of[k] == continues[q])) & (position[k] >= lowest[q])

    return sees


@cache
def _functions(device_type: str) -> tuple[Callable, Callable]:
    """FlexAttention and what makes its block masks. Plain, both hold a number for each query and key."""
    if device_type == "cuda":  # torch 2.13 has no compiled form for rows of changing length on a CPU
        return torch.compile(flex_attention), torch.compile(create_block_mask)
    return flex_attention, create_block_mask


@cache
def _capped(softcap: float) -> Callable:
    """The ``score_mod`` of soft-capped scores."""

    def cap(
        score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap
