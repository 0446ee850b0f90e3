"""A checkpoint of a chain as evaluations load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import load_frozen, merge_adapters
from anamnesis.training.slices import load_part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_trained(
    snapshot: str, adapters: Sequence[str], method: str | None, model: Mapping[str, Any]
) -> tuple[PrefixEngine, PreTrainedTokenizerBase]:
    """(engine, tokenizer) of a model with ``adapters`` merged one after the other. ``method``: what trained
    them, as its models may run in an engine of their own; ``model``: where and how it is loaded.
    """
    language_model, tokenizer = load_frozen(Path(snapshot), **model)
    language_model = merge_adapters(language_model, [Path(adapter) for adapter in adapters])
    own = load_part(method, "engine") if method else None
    if own:
        return own.engine_of(language_model, adapters, snapshot, tokenizer), tokenizer
    return PrefixEngine(language_model), tokenizer
