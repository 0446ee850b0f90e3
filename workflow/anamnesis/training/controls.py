"""Controls of guided training: what is added in place of the selected heads' mean outputs on the task."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from anamnesis.core.errors import UserError
from anamnesis.engine.heads import HeadGeometry


def random_heads(ranking: pd.DataFrame, count: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """``count`` heads (layer, head) drawn from those that are not selected.

    ``ranking``: ``layer, head, selected``. Raises UserError when there are fewer of them.
    """
    rest = ranking[~ranking.selected].sort_values(["layer", "head"])
    if len(rest) < count:
        raise UserError(
            f"guidance.control is random_heads, but only {len(rest)} heads of the model are not selected "
            f"and {count} are needed: lower vectors.heads and guidance.heads"
        )
    drawn = torch.randperm(len(rest), generator=generator)[:count].tolist()
    return [(int(rest.layer.iloc[i]), int(rest["head"].iloc[i])) for i in drawn]


def random_vectors(
    geometry: HeadGeometry,
    mean: torch.Tensor,
    heads: Sequence[tuple[int, int]],
    generator: torch.Generator,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Random vectors in the shape of ``mean`` (n_layers, n_heads, head_dim), zero but for ``heads``.

    Each adds as much to the residual stream as the head's own h̄: equal lengths before W_O would not do, as it
    shortens a random direction more than one that the head writes to. ``scale``: of ``MeanActivations``.
    """
    noise, vectors = torch.randn(mean.shape, generator=generator), torch.zeros(mean.shape)
    for layer, head in heads:
        length, drawn = (geometry.written(layer, x[layer], scale)[head].norm() for x in (mean, noise))
        vectors[layer, head] = (
            noise[layer, head] * length / drawn.clamp_min(1e-30)
        )  # a pruned head adds nothing
    return vectors


def from_several_tasks(control: str, mean: torch.Tensor, task_means: Sequence[torch.Tensor]) -> torch.Tensor:
    """h̄ of a control that other tasks have a part in, in the shape of ``mean``, the task's own h̄.

    ``other_task``: the one of ``task_means``; ``shared``: their average; ``centred``: ``mean`` minus it.
    """
    average = torch.stack(list(task_means)).mean(0)
    return mean - average if control == "centred" else average
