"""One softmax over several blocks of keys, none of which is copied or expanded: attention of branch rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch

from anamnesis.engine.attention import Call

# Keys of a row's own up to which sums of products beat a matrix product per row, which would be a batch of
# tiny products.
FEW = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True)
class Block:
    """Keys and values seen by rows. ``key``, ``value``: (T, n_kv_heads, n, d) with T = 1 (seen by the rows of
    every
    tree) or T = number of trees, or (T, R, n_kv_heads, n, d) when each row has keys of its own.
    ``sees``: booleans that broadcast to (T, R, m, n), or None when all is seen."""

    key: torch.Tensor
    value: torch.Tensor
    sees: torch.Tensor | None = None


def attend_blocks(query: torch.Tensor, blocks: Sequence[Block], call: Call) -> torch.Tensor:
    """One softmax over several blocks of keys, none of which is copied or expanded.

    ``query``: (T, R, m, n_heads, d), R rows of m tokens for each of T trees. Returns the same shape, with the
    values' d. The softmax is summed in float32 whatever the dtype.
    """
    trees, rows, m, n_heads, d = query.shape  # values may be of another width than d
    kv = blocks[0].key.shape[-3]
    q = query.reshape(trees, rows, m, kv, n_heads // kv, d).permute(0, 3, 1, 4, 2, 5)  # T, kv, R, G, m, d
    q = q.contiguous()  # once for all blocks
    scores = []
    for block in blocks:
        s = _scores(q, block.key, call.scale)
        if call.softcap is not None:
            s = call.softcap * torch.tanh(s / call.softcap)
        if block.sees is not None:
            s = s.masked_fill(~block.sees[:, None, :, None], -math.inf)
        scores.append(s)
    sizes = [s.shape[-1] for s in scores]
    if call.sinks is not None:
        sinks = call.sinks.to(q).view(1, kv, 1, -1, 1, 1)
        scores.append(sinks.expand(*scores[0].shape[:-1], 1))
        sizes.append(1)
    parts = torch.cat(scores, -1).softmax(-1).split(sizes, -1)
    seen = zip(parts, blocks, strict=False)  # sinks, the last part, have no values
    out = reduce(add, (_mix(weights, block.value) for weights, block in seen))
    return out.permute(0, 2, 4, 1, 3, 5).reshape(trees, rows, m, n_heads, -1)


def _scores(q: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    """(T, kv, R, G, m, d) queries against a block's keys, times ``scale`` -> (T, kv, R, G, m, n)."""
    trees, kv, rows, groups, m, d = q.shape
    if key.dim() == 5:  # keys of each row
        k = key.transpose(1, 2)
        if k.shape[-2] <= FEW.get(q.device.type, 1):
            products = q.view(trees, kv, rows, groups * m, 1, d) * k[:, :, :, None]
            return (products.sum(-1) * scale).view(trees, kv, rows, groups, m, -1)
        return _scaled(q.view(trees, kv, rows, groups * m, d), k, scale).view(trees, kv, rows, groups, m, -1)
    if key.shape[0] == trees:
        return _scaled(q.view(trees, kv, -1, d), key, scale).view(trees, kv, rows, groups, m, -1)
    flat = _scaled(q.transpose(0, 1).reshape(kv, -1, d), key[0], scale)
    return flat.view(kv, trees, rows, groups, m, -1).transpose(0, 1)


def _scaled(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    """scale · q kᵀ over leading dimensions, without a pass over the scores for the scale."""
    batch = q.shape[:-2]
    q, k = q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:])
    found = torch.baddbmm(q.new_zeros(1), q, k.transpose(-1, -2), beta=0, alpha=scale)
    return found.view(*batch, *found.shape[-2:])


def _mix(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(T, kv, R, G, m, n) weights over a block's values -> (T, kv, R, G, m, d)."""
    trees, kv, rows, groups, m, n = weights.shape
    if value.dim() == 5:
        v, w = value.transpose(1, 2), weights.reshape(trees, kv, rows, groups * m, n)
        few = n <= FEW.get(v.device.type, 1)
        mixed = (w[..., None] * v[:, :, :, None]).sum(-2) if few else w @ v
        return mixed.view(trees, kv, rows, groups, m, -1)
    if value.shape[0] == trees:
        return (weights.reshape(trees, kv, -1, n) @ value).view(trees, kv, rows, groups, m, -1)
    flat = weights.transpose(0, 1).reshape(kv, -1, n) @ value[0]
    return flat.view(kv, trees, rows, groups, m, -1).transpose(0, 1)
