"""Experience replay: some training examples of every earlier task are learnt again (in the form of TRACE,
arXiv 2310.06762, when trained on after the new task).
"""

from __future__ import annotations

from anamnesis.engine.batches import Batch, shuffled_batches, spread
from anamnesis.engine.examples import Example
from anamnesis.training.method import Method


class Replay(Method):
    """``share`` of the training examples of every task before, at least one, drawn once for the stage.

    ``when`` "mixed": in each epoch all of them are added, as evenly as can be, to the batches of the new
    task, which keep their own examples. "after": they follow once, in batches of their own.
    """

    def batches(self) -> list[Batch]:
        batches, old, training = super().batches(), self.replayed(), self.stage.training
        rng = self.stage.random("replay order")
        if self.stage.settings["when"] == "after":
            return batches + shuffled_batches(old, 1, training["batch_size"], rng)
        places = len(batches) // training["epochs"]
        added = []
        for _ in range(training["epochs"]):
            added += spread([old[i] for i in rng.permutation(len(old))], places)
        return [Batch(b.examples + more, b.flashbacks) for b, more in zip(batches, added, strict=True)]

    def replayed(self) -> list[Example]:
        """The examples that are learnt again, task by task."""
        replayed = []
        for task, examples in self.stage.past.items():
            count = max(1, round(self.stage.settings["share"] * len(examples)))
            drawn = self.stage.random("replay", task).choice(len(examples), count, replace=False)
            replayed += [examples[i] for i in sorted(drawn)]
        return replayed


METHOD = Replay
