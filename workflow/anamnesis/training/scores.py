"""Logits that are not computed yet: hidden states and the output head, applied to some rows at a time.

Rows times vocabulary is the largest thing in a training step that compares two models at all positions. Where
the head is plain and frozen, as LoRA leaves it, such a tensor is never made as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from anamnesis.engine.likelihood import has_plain_head, head_input
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.products import fast_products


@dataclass(frozen=True)
class Scores:
    """``values``: hidden states (n, hidden_size) on their way into ``head``, or, without one, logits
    (n, vocabulary).
    """

    values: torch.Tensor
    head: nn.Linear | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def vocabulary(self) -> int:
        return self.values.shape[1] if self.head is None else self.head.weight.shape[0]

    def pick(self, rows: Sequence[int]) -> Scores:
        """Some of the rows, in any order."""
        return Scores(self.values[torch.as_tensor(rows, device=self.values.device)], self.head)

    def logits(self, rows: slice = slice(None)) -> torch.Tensor:
        """(n, vocabulary) float32."""
        values = self.values[rows]
        if self.head is None:
            return values.float()
        with fast_products():
            return self.head(values).float()

    def detach(self) -> Scores:
        return Scores(self.values.detach(), self.head)


def frozen_head(engine: PrefixEngine) -> nn.Linear | None:
    """The output head, if the logits are its answer and nothing else and it is not trained.

    To be asked for outside of any change to the model: a token is run to find out.
    """
    head = engine.model.get_output_embeddings()
    apart = has_plain_head(engine) and not any(p.requires_grad for p in head.parameters())
    return head if apart else None


def run_scores(engine: PrefixEngine, pack: Pack, rows: Sequence[int], head: nn.Linear | None) -> Scores:
    """One forward pass. ``head``: :func:`frozen_head`. Gradients flow as the caller's grad mode says."""
    with head_input(head, first_row_only=True) as seen:
        logits = engine.run(pack, rows)
    return Scores(logits) if head is None else Scores(seen[0], head)
