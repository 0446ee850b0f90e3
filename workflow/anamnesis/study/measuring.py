"""What a study measures on the prompts of its tasks: activations, effects, the ranking of heads, vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.core.progress import progress
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.stats.chart_tables import head_intervals
from anamnesis.study.digests import model_digest
from anamnesis.study.inputs import head_list, whole_number
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import CLEAN, encode_questions, shuffled_prompts
from anamnesis.vectors.instruction import instruction_vector, selected_heads
from anamnesis.vectors.ranking import rank_heads

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def chosen_heads(engine: PrefixEngine, heads: int | Sequence[tuple[int, int]]) -> tuple[int, list | None]:
    """(how many heads, which where they are given)."""
    geometry = engine.geometry
    if isinstance(heads, Sequence | Mapping | np.ndarray) and not isinstance(heads, str):
        fixed = head_list("heads", heads)
        for layer, head in fixed:
            geometry.check_head(layer, head)
        return len(fixed), fixed
    count, most = whole_number("heads", heads, 1), geometry.n_layers * geometry.n_heads
    if count > most:
        raise UserError(f"heads is {count}: the model has {most}; give at most that many")
    return count, None


def measured(
    engine: PrefixEngine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, pd.DataFrame],
    rank_by: str,
    heads: int,
    fixed: Sequence[tuple[int, int]] | None,
    batch_tokens: int,
) -> dict[str, Any]:
    """``activations``, ``tables``, ``heads``, ``vectors`` and ``model`` of a study: with the ``heads`` ranked
    first, or those that are ``fixed``.
    """
    activations, tables = {}, {}
    with evaluation_mode(engine.model):
        for name, rows in prompts.items():
            clean, shuffled = rows[rows.kind == CLEAN], shuffled_prompts(rows, name)
            with progress(len(clean), f"activations {name}") as done:
                questions = encode_questions(tokenizer, clean)
                activations[name] = mean_head_activations(engine, questions, batch_tokens, done)
            with progress(len(shuffled), f"sweep {name}") as done:
                questions, mean = encode_questions(tokenizer, shuffled), activations[name].mean
                ids = list(shuffled.prompt_id)
                tables[name] = causal_effects(engine, questions, ids, mean, batch_tokens, progress=done)
        ranking = head_intervals(rank_heads(tables, rank_by, heads, fixed))
        chosen = selected_heads(ranking)
        vectors = {
            name: instruction_vector(engine.geometry, found.mean, chosen, found.scale)
            for name, found in activations.items()
        }
    found = {"activations": activations, "tables": tables, "heads": ranking, "vectors": vectors}
    return found | {"model": model_digest(engine.model)}
