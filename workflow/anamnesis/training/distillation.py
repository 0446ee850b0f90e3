"""The divergence between the student and a teacher, as a term of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from anamnesis.training.divergence import divergence
from anamnesis.training.reference import Reference
from anamnesis.training.student import Additions, PassNeeds, Student, compared_weights


@dataclass(frozen=True)
class KlSettings:
    """How two models are compared; ``guidance.kl`` in the configuration says what each value means."""

    weight: float = 0.05
    positions: str = "all"
    direction: str = "student_teacher"
    temperature: float = 2.0
    temperature_squared: bool = False
    reduction: str = "sum"


class Distillation:
    """weight · KL between the plain student and a teacher, over the new task's examples (mean over
    examples).

    ``teacher``: the model before the stage, or h̄ (as for ``student.Additions``) for the current model with
    h̄ added, which differs from the student only from the last prompt token on.
    """

    def __init__(self, name: str, kl: KlSettings, teacher: Reference | Additions):
        self.name, self.kl, self.teacher = name, kl, teacher
        added = None if isinstance(teacher, Reference) else teacher
        self.positions = "output" if added is not None and kl.positions == "all" else kl.positions
        self.needs = PassNeeds(self.positions, added)
        self._versus = (id(teacher), kl.temperature, kl.direction)  # a teacher outlives its batches

    def __call__(self, student: Student) -> torch.Tensor:
        examples, kl = student.examples, self.kl
        if not examples:  # a batch of replayed examples only
            return student.answers.new_zeros(())
        rows = student.compared(self._versus, self.positions, self._divergence)
        weight = compared_weights(examples, self.positions, kl.reduction).to(rows.device)
        return (weight * rows).sum() * kl.weight * (kl.temperature**2 if kl.temperature_squared else 1.0)

    def _divergence(self, student: Student) -> torch.Tensor:
        if isinstance(self.teacher, Reference):
            taught = self.teacher.scores(student.examples, self.positions)
        else:
            taught = student.taught(self.positions)
        return divergence(student.plain(self.positions), taught, self.kl.temperature, self.kl.direction)
