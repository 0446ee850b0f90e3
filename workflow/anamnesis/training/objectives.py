"""What a training step minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.functional import cross_entropy

from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.student import PassNeeds, Student, run_student
from anamnesis.training.world import ALONE

if TYPE_CHECKING:  # what is trained without guidance does not depend on it
    from anamnesis.training.guidance import Intervention


@dataclass(frozen=True)
class Loss:
    """This process's part of a loss to minimise, and of what it is made of, for the log. All parts together
    are the loss of the whole batch.

    ``protected``: computes a second loss, whose gradient is combined with that of ``total`` by
    ``Objective.combine`` instead of being added to it.
    """

    total: torch.Tensor
    parts: dict[str, float] = field(default_factory=dict)
    protected: Callable[[], torch.Tensor] | None = None


class Term(Protocol):
    """Something added to the loss, already weighted: a mean over the new task's examples or, where it needs
    nothing of a forward pass, a function of the weights alone.
    """

    name: str
    needs: PassNeeds

    def __call__(self, student: Student) -> torch.Tensor: ...


class Objective:
    """Mean cross-entropy over a batch's answer tokens, under intervention if there is one, plus terms.

    ``progress`` is the share of the stage's optimiser steps already taken, in [0, 1). ``world``: the
    processes among which every batch is divided.
    """

    world = ALONE

    def __init__(self, terms: Sequence[Term] = (), intervention: Intervention | None = None):
        self.terms, self.intervention = list(terms), intervention

    def __call__(self, engine: PrefixEngine, batch: Batch, progress: float) -> Loss:
        needs = PassNeeds()
        for term in self.terms:
            needs |= term.needs
        additions, strength = None, 0.0
        guided: frozenset[int] = frozenset()
        if self.intervention is not None:
            additions, strength = self.intervention.additions, self.intervention.strength(progress)
            guided = self.intervention.guided(batch.examples, progress)
        share, places = self.world.own(batch.examples), range(len(batch.examples))
        here = {k for k, place in enumerate(self.world.run(places)) if place in guided}
        run = self.world.run(batch.examples)
        student = run_student(engine, run, progress, needs, additions, strength, here)
        total = self.answer_loss(student.answers, answer_tokens(student.order, engine.device))
        total = total * (_count(share) / _count(batch.examples))
        parts = {"answer": total.item()}
        count = max(1, sum(e.new for e in batch.examples))
        if self.intervention is not None:
            parts["strength"] = strength * self.world.even
            if self.intervention.share < 1:
                parts["guided"] = len(guided.intersection(self.world.own(places))) / count
        new = sum(e.new for e in share) / count
        for term in self.terms:
            value = term(student) * (self.world.even if term.needs == PassNeeds() else new)
            total, parts[term.name] = total + value, value.item()
        return Loss(total, parts)

    def answer_loss(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean over the answers' ``tokens`` (n) of their loss; ``logits`` (n, vocabulary)."""
        return cross_entropy(logits, tokens)

    def combine(self, new: list[torch.Tensor], protected: list[torch.Tensor]) -> list[torch.Tensor]:
        """One gradient per parameter from those of ``Loss.total`` and ``Loss.protected``: their sum."""
        return [a + b for a, b in zip(new, protected, strict=True)]


def _count(examples: Sequence[Example]) -> int:
    """Tokens of all answers."""
    return sum(len(example.answer) for example in examples)


def answer_tokens(examples: Sequence, device: torch.device) -> torch.Tensor:
    """All answer tokens of a batch, in the order of its rows."""
    return torch.tensor([token for example in examples for token in example.answer], device=device)
