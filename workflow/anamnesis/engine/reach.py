"""How long a text may be: up to where every token of a model depends on those before it and nothing else.

Beyond a limit some models turn queries and keys by another table for *all* tokens of a row, as soon as one of
them is further on. Then what a prefix computes depends on what follows, and on which texts share a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Reach:
    """``tokens`` of the longest text; ``why`` there are no longer ones, to go into a message."""

    tokens: int
    why: str


def find_reach(config: PreTrainedConfig, scaled: Sequence[Any]) -> Reach | None:
    """The shortest of a model's limits, None where it has none. ``config``: of the decoder; ``scaled``:
    attention modules that weigh queries by their place in the row (``HeadGeometry.scaled``).
    """
    return min(_limits(config, scaled), key=lambda reach: reach.tokens, default=None)


def _limits(config: PreTrainedConfig, scaled: Sequence[Any]) -> Iterator[Reach]:
    if tokens := getattr(config, "max_position_embeddings", None):
        yield Reach(tokens, "its max_position_embeddings")
    if tokens := getattr(config, "attention_chunk_size", None):
        yield Reach(tokens, "it attends in chunks of that length")
    for module in scaled:
        yield Reach(int(module.floor_scale) - 1, "it weighs queries by their place from there on")
    for rotary in rotary_tables(config):
        kind = rotary.get("rope_type", "default")
        if kind == "longrope" or "long_mscale" in rotary:
            yield Reach(rotary["original_max_position_embeddings"], "a longer text changes its rotary table")
        elif "dynamic" in kind and (tokens := getattr(config, "max_position_embeddings", None)):
            # one less: at exactly that length transformers keeps the table of a longer text that went before
            yield Reach(tokens - 1, "a longer text changes its rotary table")


def rotary_tables(config: PreTrainedConfig) -> list[dict]:
    """The rotary settings of a model: one for all layers, or one for each kind of layer."""
    found = getattr(config, "rope_parameters", None) or {}
    kinds = [value for value in found.values() if isinstance(value, dict)]
    return kinds or [found]
