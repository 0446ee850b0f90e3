"""Joint flashback adaptation (arXiv 2505.15467): the new task is learnt together with latent tasks, while the
model's predictions on a few prompts of earlier tasks are protected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.engine.batches import Batch
from anamnesis.training.method import Method
from anamnesis.training.methods.jfa.flashbacks import FlashbackObjective, choose_flashbacks, with_flashbacks
from anamnesis.training.methods.jfa.latent import with_latent_tasks
from anamnesis.training.methods.jfa.latent_files import save_pool
from anamnesis.training.methods.jfa.latent_tasks import LatentEngine
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage

if TYPE_CHECKING:
    from anamnesis.training.guidance import Intervention
    from anamnesis.training.objectives import Term


class Jfa(Method):
    """Cross-entropy on the new task; alpha · KL(before ‖ now) + KL(now ‖ before) on flashbacks; gradients
    projected; one pool of latent tasks through all stages. Each of the four can be switched off.
    """

    def __init__(self, stage: Stage):
        settings = stage.settings
        flashbacks = choose_flashbacks(stage, settings["flashbacks"] if settings["alpha"] else 0)
        if settings["latent_tasks"]:
            stage, flashbacks = with_latent_tasks(stage, flashbacks)
        super().__init__(stage)
        self.flashbacks, self.before = flashbacks, None
        if flashbacks:
            self.before = replace(stage, examples=flashbacks).reference()
        if isinstance(stage.engine, LatentEngine):
            stage.engine.encoder.release()

    def batches(self) -> list[Batch]:
        rng = self.stage.random("flashback order")
        return with_flashbacks(
            super().batches(), self.flashbacks, self.stage.settings["flashbacks_per_step"], rng
        )

    def objective(self, terms: Sequence[Term], intervention: Intervention | None) -> Objective:
        return FlashbackObjective(terms, intervention, self.stage.settings, self.before)

    def save(self, folder: Path) -> None:
        engine = self.stage.engine
        if isinstance(engine, LatentEngine):
            save_pool(engine.pool, engine.encoder, engine, folder)


METHOD = Jfa
