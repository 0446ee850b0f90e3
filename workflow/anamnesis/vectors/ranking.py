"""Heads ranked by their mean causal effect over tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError

EFFECT_COLUMNS = ["prompt_id", "layer", "head", "p_clean", "p_patched", "effect", "log_effect"]
"""Columns of a table of causal effects: one row per prompt and head."""


def rank_heads(
    effects: dict[str, pd.DataFrame], rank_by: str, top: int, fixed: Sequence[tuple[int, int]] | None = None
) -> pd.DataFrame:
    """All heads ranked by their mean effect over tasks: rank, layer, head, effect, standard_error, n_prompts,
    n_tasks, selected.

    ``rank_by``: "probability" or "log_probability". Each task counts the same. The standard error is that of
    the mean over tasks, from the spread of prompts within each task: sqrt(Σ s_t² / n_t) / n_tasks.
    ``selected`` marks the ``top`` heads, or those of ``fixed`` when a list is given.

    Raises UserError for more heads than there are, and for a head of ``fixed`` that is not in the tables.
    """
    column = {"probability": "effect", "log_probability": "log_effect"}[rank_by]
    stacked = pd.concat([frame.assign(task=task) for task, frame in effects.items()], ignore_index=True)
    per_task = stacked.groupby(["layer", "head", "task"])[column].agg(["mean", "var", "count"]).reset_index()
    per_task["sampling"] = per_task["var"] / per_task["count"]  # one prompt has no spread: unknown, not 0
    grouped = per_task.groupby(["layer", "head"])
    ranked = grouped.agg(
        effect=("mean", "mean"),
        sampling=("sampling", lambda x: x.sum(skipna=False)),
        n_prompts=("count", "sum"),
        n_tasks=("task", "nunique"),
    ).reset_index()
    ranked["standard_error"] = np.sqrt(ranked.pop("sampling")) / ranked["n_tasks"]
    ranked = ranked.sort_values(["effect", "layer", "head"], ascending=[False, True, True], ignore_index=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    if top > len(ranked):
        raise UserError(
            f"vectors.heads is {top} but the model has {len(ranked)} heads: give at most that many"
        )
    places = list(zip(ranked.layer, ranked["head"], strict=True))
    chosen = set(_check_heads(fixed, places) if fixed else places[:top])
    ranked["selected"] = [place in chosen for place in places]
    return ranked[["rank", "layer", "head", "effect", "standard_error", "n_prompts", "n_tasks", "selected"]]


def _check_heads(
    heads: Sequence[Sequence[int]], places: Collection[tuple[int, int]]
) -> list[tuple[int, int]]:
    """``heads`` as pairs. Raises UserError when one of them is not among ``places``."""
    for layer, head in heads:
        if (layer, head) not in places:
            layers, numbers = (max(column) for column in zip(*places, strict=True))
            raise UserError(
                f"vectors.head_list names [{layer}, {head}], which the model does not have: layers are 0 to "
                f"{layers}, heads 0 to {numbers}; give heads in that range, or null to rank all"
            )
    return [(layer, head) for layer, head in heads]
