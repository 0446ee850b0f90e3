"""Instruction vectors before and after training, compared with those of random heads (arXiv 2406.12227,
finding 2, figure 5b).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from anamnesis.core.errors import UserError
from anamnesis.engine.heads import HeadGeometry

Heads = Sequence[tuple[int, int]]
SELECTED, RANDOM = "selected", "random"


def head_vectors(
    geometry: HeadGeometry, mean: torch.Tensor, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """What each head writes into the residual stream, (n_layers, n_heads, hidden_size) float32. ``mean``,
    ``scale``: of ``MeanActivations``.
    """
    return torch.stack([geometry.written(layer, mean[layer], scale) for layer in range(geometry.n_layers)])


def summed(vectors: torch.Tensor, heads: Heads) -> torch.Tensor:
    """θ of a head set: the sum of its rows of ``head_vectors``, (hidden_size,)."""
    layers, numbers = zip(*heads, strict=True)
    return vectors[list(layers), list(numbers)].sum(0)


def random_head_sets(
    geometry: HeadGeometry, selected: Heads, draws: int, rng: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """``draws`` sets of as many heads as ``selected``, none of which is in it. Raises UserError for a model
    with too few other heads.
    """
    places = [(layer, head) for layer in range(geometry.n_layers) for head in range(geometry.n_heads)]
    others = [place for place in places if place not in set(selected)]
    if len(others) < len(selected):
        raise UserError(
            f"vectors.heads = {len(selected)}: only {len(others)} other heads are left to draw random sets "
            "from; select fewer"
        )
    return [[others[i] for i in rng.choice(len(others), len(selected), replace=False)] for _ in range(draws)]


def vector_drift(
    before: torch.Tensor, now: torch.Tensor, selected: Heads, random_sets: Sequence[Heads]
) -> pd.DataFrame:
    """Cosine of a head set's vector before training with that of the model at hand: ``heads, draw, cosine``.

    ``before``, ``now``: (n_layers, n_heads, hidden_size) of :func:`head_vectors`. One row for the selected
    heads (draw 0), one for each random set.
    """
    sets = [(SELECTED, 0, selected), *((RANDOM, draw, heads) for draw, heads in enumerate(random_sets))]
    rows = [
        (kind, draw, float(cosine_similarity(summed(before, heads), summed(now, heads), dim=0)))
        for kind, draw, heads in sets
    ]
    return pd.DataFrame(rows, columns=["heads", "draw", "cosine"])
