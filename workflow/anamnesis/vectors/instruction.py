"""Instruction vectors: the mean outputs of the selected heads, through their slices of the output
projection.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from anamnesis.engine.heads import HeadGeometry

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# As a share of the residual stream. In the default model vectors are about twice as long as it.
NEGLIGIBLE = 0.1


def instruction_vector(
    geometry: HeadGeometry,
    mean: torch.Tensor,
    heads: Sequence[tuple[int, int]],
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """θ_c = Σ over (layer, head) in S of what the head writes into the residual stream: (hidden_size,)
    float32, in most models W_O[:, head] h̄. The projection's bias is not part of it.

    ``mean``, ``scale``: of ``activations.MeanActivations``. Raises UserError for a head the model does not
    have.
    """
    theta = torch.zeros(geometry.hidden_size)
    for layer, head in heads:
        geometry.check_head(layer, head)
        theta += geometry.written(layer, mean[layer], scale)[head]
    return theta


def head_additions(
    geometry: HeadGeometry, mean: torch.Tensor, heads: Sequence[tuple[int, int]]
) -> dict[int, torch.Tensor]:
    """The same vector before W_O: {layer: (n_heads, head_dim)} with h̄ at the selected heads and zeros
    elsewhere.
    """
    additions: dict[int, torch.Tensor] = {}
    for layer, head in heads:
        geometry.check_head(layer, head)
        additions.setdefault(layer, torch.zeros_like(mean[layer]))[head] = mean[layer, head]
    return additions


def warn_if_negligible(theta: torch.Tensor, stream: torch.Tensor, task: str) -> None:
    """Warn of a vector that is too short to change anything: ``stream`` (n_layers,) are the lengths of the
    residual stream it is added to, after each layer.
    """
    share = float(theta.norm() / stream.min())
    if share < NEGLIGIBLE:
        logger.warning(
            "%s: the instruction vector has a length of %.3g, %.2g %% of the residual stream's where that is "
            "shortest: adding or removing it changes next to nothing in this model",
            task, float(theta.norm()), 100 * share,
        )  # fmt: skip


def selected_heads(ranking: pd.DataFrame, top: int | None = None) -> list[tuple[int, int]]:
    """(layer, head) of the selected heads of a ranking frame, best first; only the first ``top`` if given."""
    chosen = ranking[ranking.selected]
    pairs = [(int(layer), int(head)) for layer, head in zip(chosen.layer, chosen["head"], strict=True)]
    return pairs if top is None else pairs[:top]
