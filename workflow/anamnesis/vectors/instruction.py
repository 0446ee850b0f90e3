"""Instruction vectors: the mean outputs of the selected heads, through their slices of the output
projection.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anamnesis.engine.heads import HeadGeometry


def instruction_vector(
    geometry: HeadGeometry, mean: torch.Tensor, heads: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """θ_c = Σ over (layer, head) in S of W_O[:, head] h̄: (hidden_size,) float32. The projection's bias is
    not part of it.

    ``mean``: (n_layers, n_heads, head_dim). Raises UserError for a head the model does not have.
    """
    theta = torch.zeros(geometry.hidden_size)
    for layer, head in heads:
        geometry.check_head(layer, head)
        weight = geometry.output_weight(layer)[head].cpu()  # (head_dim, hidden_size)
        theta += mean[layer, head].float().cpu() @ weight
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


def selected_heads(ranking, top: int | None = None) -> list[tuple[int, int]]:
    """(layer, head) of the selected heads of a ranking frame, best first; only the first ``top`` if given."""
    chosen = ranking[ranking.selected]
    pairs = [(int(layer), int(head)) for layer, head in zip(chosen.layer, chosen["head"], strict=True)]
    return pairs if top is None else pairs[:top]
