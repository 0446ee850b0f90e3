"""What a training method is. ``methods/<name>/method.py`` overrides what the method does otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anamnesis.engine.batches import Batch, shuffled_batches
from anamnesis.engine.examples import Example
from anamnesis.training.objectives import Objective, Term
from anamnesis.training.stage import Stage

if TYPE_CHECKING:
    from anamnesis.training.guidance import Intervention


class Method:
    """Plain fine-tuning of the stage's adapter; made before the stage begins."""

    def __init__(self, stage: Stage):
        self.stage = stage

    def batches(self) -> list[Batch]:
        """What is trained on, in its order."""
        training = self.stage.training
        return shuffled_batches(
            self.stage.examples, training["epochs"], training["batch_size"], self.stage.random("order")
        )

    def seen(self) -> Sequence[Example]:
        """The new task's examples that this process runs; all where it must run what the others do."""
        world, examples = self.stage.world, self.stage.examples
        if world.size == 1 or world.sharded:
            return examples
        trained = {example for batch in self.batches() for example in world.run(batch.examples)}
        return [example for example in examples if example in trained]

    def terms(self) -> Sequence[Term]:
        """What is added to the loss."""
        return ()

    def objective(self, terms: Sequence[Term], intervention: Intervention | None) -> Objective:
        """What is minimised, given all terms (those of guidance included)."""
        return Objective(terms, intervention)

    def finish(self) -> dict[str, torch.Tensor]:
        """What the next stage needs to know, saved as ``state.safetensors`` next to the adapter."""
        return {}

    def save(self, folder: Path) -> None:
        """Write what else belongs into the adapter's folder, where the adapter and its note already are."""
