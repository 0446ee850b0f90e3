"""What a stage reports to trackers (``core.trackers``), as transformers' trainer names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from anamnesis.core.trackers import Reporter

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class Report(TrainerCallback):
    """Reports every part of the loss, averaged over the forward passes since the last report, the learning
    rate, and the length of the gradient before it is clipped. ``passes``: the log of the stage so far.
    """

    def __init__(self, reporter: Reporter, passes: Callable[[], Sequence[Mapping[str, float]]]):
        self.reporter, self.passes, self.last = reporter, passes, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last = len(self.passes())  # a stage that goes on from a checkpoint

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        new = self.passes()[self.last :]
        self.last += len(new)
        if not new or not state.is_world_process_zero:
            return
        names = [name for name in new[-1] if name not in ("step", "learning_rate")]
        metrics = {name: sum(row[name] for row in new) / len(new) for name in names}
        metrics["learning_rate"] = new[-1]["learning_rate"]
        if logs and "grad_norm" in logs:
            metrics["grad_norm"] = logs["grad_norm"]
        self.reporter(state.global_step, {f"train/{name}": value for name, value in metrics.items()})
