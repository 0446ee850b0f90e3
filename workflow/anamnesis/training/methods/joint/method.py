"""Joint training: what one training on all tasks so far reaches, which sequential training is measured by."""

from __future__ import annotations

from anamnesis.engine.batches import Batch, shuffled_batches
from anamnesis.training.method import Method


class Joint(Method):
    """Stage t trains a new adapter on the model before training, on the examples of tasks 1 to t, shuffled
    together, for as many epochs as task t has. So the model after a stage is the upper bound of that stage.
    """

    def batches(self) -> list[Batch]:
        stage, training = self.stage, self.stage.training
        examples = [*stage.examples, *(e for earlier in stage.past.values() for e in earlier)]
        return shuffled_batches(examples, training["epochs"], training["batch_size"], stage.random("order"))


METHOD = Joint
