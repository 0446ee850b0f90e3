"""What a stage reports to trackers (``core.trackers``), as transformers' trainer names it."""

from __future__ import annotations

from transformers import Trainer, TrainerCallback

from anamnesis.core.trackers import Reporter


class Report(TrainerCallback):
    """Reports every part of the loss, averaged over the forward passes since the last report, the learning
    rate, and the length of the gradient before it is clipped. ``trainer``: a ``loop.StageTrainer``.
    """

    def __init__(self, reporter: Reporter, trainer: Trainer):
        self.reporter, self.trainer, self.last = reporter, trainer, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.last = len(self.trainer.steps)  # a stage that goes on from a checkpoint

    def on_log(self, args, state, control, logs=None, **kwargs):
        passes = self.trainer.steps[self.last :]
        self.last = len(self.trainer.steps)
        if not passes or not state.is_world_process_zero:
            return
        names = [name for name in passes[-1] if name not in ("step", "learning_rate")]
        metrics = {name: sum(row[name] for row in passes) / len(passes) for name in names}
        metrics |= {"learning_rate": passes[-1]["learning_rate"], "grad_norm": logs.get("grad_norm")}
        named = {f"train/{name}": value for name, value in metrics.items() if value is not None}
        self.reporter(state.global_step, named)
