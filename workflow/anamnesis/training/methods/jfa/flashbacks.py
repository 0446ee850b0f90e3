"""Flashbacks (arXiv 2505.15467): prompts of earlier tasks, on which the model is held to what it predicted
before the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat, zip_longest
from typing import TYPE_CHECKING

import numpy as np
import torch

from anamnesis.core.errors import UserError, given
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.divergence import divergence
from anamnesis.training.methods.jfa.projection import PROJECTIONS
from anamnesis.training.objectives import Loss, Objective
from anamnesis.training.reference import Reference
from anamnesis.training.stage import Stage
from anamnesis.training.student import PassNeeds, compared_weights, run_student

if TYPE_CHECKING:
    from anamnesis.training.guidance import Intervention
    from anamnesis.training.objectives import Term

DIRECTION = {"symmetric": ("symmetric", 1.0), "released": ("teacher_student", 2.0)}


def choose_flashbacks(stage: Stage, count: int) -> list[Example]:
    """Up to ``count`` prompts of every earlier task, drawn at random, a task at a time in turn.

    They have no answers and count as new: they are what two models are compared on. Raises UserError for a
    task without prompts.
    """
    drawn = []
    for name, examples in stage.past.items() if count else ():
        if not examples:
            raise UserError(
                f"methods.jfa.flashbacks is {count}, but flashbacks are asked from a task with none, {name}: "
                "give it training examples, or set methods.jfa.flashbacks to 0"
            )
        prompts = list(dict.fromkeys(replace(e, answer=(), new=True) for e in examples))
        order = stage.random("flashbacks", name).permutation(len(prompts))[:count]
        drawn.append([prompts[i] for i in order])
    return [e for turn in zip_longest(*drawn) for e in turn if e is not None]


def with_flashbacks(
    batches: Sequence[Batch], flashbacks: Sequence[Example], per_step: int, rng: np.random.Generator
) -> list[Batch]:
    """Every batch with ``per_step`` flashbacks: each once, in a random order, then again in another."""
    count = min(per_step, len(flashbacks))
    endless = (flashbacks[i] for _ in repeat(None) for i in rng.permutation(len(flashbacks)))
    return [replace(batch, flashbacks=tuple(islice(endless, count))) for batch in batches]


class FlashbackObjective(Objective):
    """The loss of the new task, and in addition alpha · the divergence on the batch's flashbacks, whose
    gradient is combined with the new task's by ``projection``.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        intervention: Intervention | None,
        settings: Mapping,
        before: Reference | None,
    ):
        super().__init__(terms, intervention)
        self.settings, self.before = settings, before
        self.combine: Callable = PROJECTIONS[settings["projection"]]

    def __call__(self, engine: PrefixEngine, batch: Batch, progress: float) -> Loss:
        loss = super().__call__(engine, batch, progress)
        if not batch.flashbacks:
            return loss
        return replace(loss, protected=lambda: self._divergence(engine, batch.flashbacks, progress))

    def _divergence(
        self, engine: PrefixEngine, flashbacks: Sequence[Example], progress: float
    ) -> torch.Tensor:
        """alpha · the mean over flashbacks of the divergence at all their positions: this process's part."""
        share = self.world.own(flashbacks)
        student = run_student(engine, self.world.run(flashbacks), progress, PassNeeds("all"))
        weight = compared_weights(student.examples, "all", self.settings["reduction"])
        before = given(self.before, "a model before the stage").scores(student.examples, "all")
        direction, times = DIRECTION[self.settings["divergence"]]
        rows = divergence(student.plain("all"), before, 1.0, direction)
        value = (weight.to(rows.device) * rows).sum()
        return self.settings["alpha"] * times * value * (len(share) / len(flashbacks))
