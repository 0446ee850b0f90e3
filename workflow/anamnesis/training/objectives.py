"""What a training step minimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy

from anamnesis.prefix.engine import PrefixEngine
from anamnesis.prefix.pack import Pack
from anamnesis.training.examples import Example


@dataclass(frozen=True)
class Loss:
    """A loss to minimise and the parts it is made of, for the log."""

    total: torch.Tensor
    parts: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """``progress`` is the share of the stage's optimiser steps already taken, in [0, 1)."""

    def __call__(self, engine: PrefixEngine, examples: Sequence[Example], progress: float) -> Loss: ...


class AnswerLoss:
    """Mean cross-entropy over the answer tokens of a batch (the continual instruction tuning objective,
    section 2).
    """

    def __call__(self, engine: PrefixEngine, examples: Sequence[Example], progress: float) -> Loss:
        pack = Pack(tuple(example.tree() for example in examples))
        rows = [row for t in range(len(examples)) for row in branch_rows(pack, t, 0)]
        loss = cross_entropy(engine.run(pack, rows).float(), answer_tokens(examples, engine.device))
        return Loss(loss, {"answer": loss.item()})


def branch_rows(pack: Pack, tree: int, branch: int) -> range:
    """Row indices of a branch of a tree."""
    start = pack.branch_start(tree, branch)
    return range(start, start + len(pack.trees[tree].branches[branch]))


def answer_tokens(examples: Sequence[Example], device: torch.device) -> torch.Tensor:
    """All answer tokens of a batch, in the order of its branch rows."""
    return torch.tensor([token for example in examples for token in example.answer], device=device)
