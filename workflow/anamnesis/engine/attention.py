"""Attention over packed trees.

The function below is registered with transformers under the name ``anamnesis`` and used only while a *layout*
is active (a context variable, so that nothing has to be passed through a model's own code). A layout says
which keys each query of the packed row may see. Everything else of the model runs unchanged, whatever its
architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from anamnesis.core.errors import UserError
from anamnesis.engine.pack import Pack, Prefix
from anamnesis.engine.tree_groups import Group, group_trees

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "anamnesis"
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Call:
    """What an attention layer hands over besides queries, keys and values."""

    layer: int
    scale: float
    dropout: float
    window: int | None  # sliding window in tokens, or None
    softcap: float | None
    sinks: torch.Tensor | None = (
        None  # (n_heads,): scores of a key that every query sees and that has no value
    )


class Layout(Protocol):
    """Which keys each query sees. Shapes of the row: query (n_heads, N, head_dim), key/value (n_kv_heads, N,
    head_dim).
    """

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        """Attention output (N, n_heads, head_dim)."""


_active: ContextVar[tuple[Layout, list] | None] = ContextVar("anamnesis_layout", default=None)


@contextmanager
def layout(model: PreTrainedModel, chosen: Layout) -> Iterator[list[torch.nn.Module]]:
    """Run ``model`` under ``chosen``; yields the list that fills with the attention modules in the order of
    their calls.
    """
    calls: list[torch.nn.Module] = []
    before = model.config._attn_implementation
    token = _active.set((chosen, calls))
    try:
        model.set_attn_implementation(NAME)
        yield calls
    finally:
        model.set_attn_implementation(before)
        _active.reset(token)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers attention function: query (1, n_heads, N, head_dim) -> output (1, N, n_heads,
    head_dim).
    """
    active = _active.get()
    if active is None:
        raise RuntimeError(
            "the attention function 'anamnesis' runs only inside anamnesis.engine.attention.layout"
        )
    chosen, calls = active
    if options.get("position_bias") is not None:
        raise UserError(
            f"{type(module).__name__} uses a position bias, which the shared-prefix engine does not cover: "
            "use a model with plain, sliding-window or soft-capped attention"
        )
    call = Call(
        len(calls),
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        dropout,
        options.get("sliding_window"),
        options.get("softcap"),
        options.get("s_aux"),
    )
    calls.append(module)
    return chosen.attend(query[0], key[0], value[0], call)[None], None


AttentionInterface.register(NAME, tree_attention)


class GroupedTrees:
    """Attention of a pack's trees, one call for each group of trees of about the same size."""

    def __init__(self, pack: Pack):
        self.pack = pack
        self._grouped: dict[torch.device, tuple[list[Group], torch.Tensor]] = {}
        self._masks: dict = {}

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        """Attention output (N, n_heads, head_dim) of the row; shapes as in :class:`Layout`."""
        if query.device not in self._grouped:  # layers may lie on several devices
            self._grouped[query.device] = group_trees(self.pack, query.device)
        groups, place = self._grouped[query.device]
        outputs = [self._attend_group(g, query, key, value, call) for g in range(len(groups))]
        flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return flat if groups[0].is_row(self.pack) else flat[place]

    def _attend_group(
        self, g: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call
    ) -> torch.Tensor:
        group = self._grouped[query.device][0][g]
        index, prefix = group.index, group.prefix
        batch, n = index.shape
        if group.is_row(self.pack):  # nothing to gather
            q, k, v = query[None], key[None], value[None]
        else:
            q, k, v = (x[:, index].transpose(0, 1) for x in (query, key, value))
        if prefix:
            k, v = (
                torch.cat([row[None, :, prefix.start : prefix.stop].expand(batch, -1, -1, -1), x], 2)
                for row, x in ((key, k), (value, v))
            )
        if self.pack.cached is not None:
            k, v = (
                torch.cat([p.to(x).expand(batch, -1, -1, -1), x], 2)
                for p, x in (
                    (self.pack.cached.keys[call.layer][None], k),
                    (self.pack.cached.values[call.layer][None], v),
                )
            )
        out = masked_attention(q, k, v, self._mask(g, call.window, query.device), call)
        return out.transpose(1, 2).reshape(batch * n, query.shape[0], -1)

    def _mask(self, g: int, window: int | None, device: torch.device) -> torch.Tensor | None:
        """(B, 1, n, prefix + n) booleans, or None where plain causal attention is right."""
        group = self._grouped[device][0][g]
        before = (self.pack.cached.length if self.pack.cached else 0) + len(group.prefix)
        batch, n = group.index.shape
        if window is not None and window >= before + n:
            window = None
        if group.sees is None and window is None and not before:
            return None
        if (g, window, device) not in self._masks:
            sees = group.sees
            if sees is None:
                sees = torch.ones(n, n, dtype=torch.bool, device=device).tril().expand(batch, n, n)
            sees = torch.cat([sees.new_ones(batch, n, before), sees], 2)
            if window is not None:
                at = self.pack.positions.to(device)[group.index]
                keys = torch.cat([torch.arange(before, device=device).expand(batch, before), at], 1)
                sees = sees & (at[:, :, None] - keys[:, None, :] < window)
                sees.diagonal(before, 1, 2).fill_(True)
            self._masks[g, window, device] = sees[:, None]
        return self._masks[g, window, device]


class ForestLayout:
    """Attention of a pack's trees, each seeing the shared prefix (if any) and its own path.

    ``attention``: how it is computed. ``record``: keep each layer's ``keys`` and ``values`` (n_kv_heads, N,
    head_dim).
    """

    def __init__(
        self,
        pack: Pack,
        device: torch.device,
        record: bool = False,
        attention: type[GroupedTrees] = GroupedTrees,
    ):
        self.pack, self.record, self.device = pack, record, device
        self.static = attention(pack)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def prefix(self, tokens: tuple[int, ...]) -> Prefix:
        """What was recorded of a prefix of the pack's trees."""
        rows = self.pack.prefixes[tokens]
        keys, values = (
            tuple(x[:, rows.start : rows.stop].contiguous() for x in part)
            for part in (self.keys, self.values)
        )
        return Prefix(keys, values)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        if self.record:
            self.keys.append(key)
            self.values.append(value)
        return self.static.attend(query, key, value, call)


def masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, call: Call
) -> torch.Tensor:
    """(B, n_heads, n, d) attention with grouped keys; ``mask`` None is causal, otherwise True where a key is
    seen.
    """
    if call.softcap is not None or call.sinks is not None:
        return _written_out(query, key, value, mask, call)
    groups = query.shape[1] // key.shape[1]
    grouped = groups > 1
    if grouped and not knows_groups(query, mask):
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
        grouped = False
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=call.dropout,
        is_causal=mask is None,
        scale=call.scale,
        enable_gqa=grouped,
    )


def knows_groups(query: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether the attention kernel that will be chosen reads grouped keys without copies of them.

    Of the fast ones of a GPU only that for causal half precision does. Copies cost less than the slow one,
    which holds all scores.
    """
    return not query.is_cuda or (mask is None and query.dtype in HALF)


def _written_out(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, call: Call
) -> torch.Tensor:
    """What the fast functions do not know: soft caps and sinks."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-1, -2) * call.scale
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.masked_fill(~mask, -math.inf)
    if call.sinks is not None:
        scores = torch.cat([scores, call.sinks.to(scores)[:, None, None].expand(*scores.shape[:-1], 1)], -1)
    weights = scores.float().softmax(-1).to(query.dtype)[..., : key.shape[-2]]
    return torch.nn.functional.dropout(weights, call.dropout, call.dropout > 0) @ value
