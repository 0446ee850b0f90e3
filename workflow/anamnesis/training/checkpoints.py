"""Checkpoints of a stage. Training continues only from one that was written to its end and is undamaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors.torch import save_file
from transformers import TrainerCallback

from anamnesis.core.artifacts import SUMS, damaged_file, write_sums
from anamnesis.core.errors import UserError, first_line, given

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from anamnesis.training.objectives import Objective

log = logging.getLogger(__name__)
COMPLETE = "complete"
STEPS = "steps.json"
OUTSIDE_ADAPTER = "others.safetensors"


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete and undamaged checkpoint, or None."""
    ended = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    for checkpoint in sorted(ended, key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True):
        damaged = damaged_file(checkpoint) if (checkpoint / SUMS).exists() else SUMS
        if damaged is None:
            return checkpoint
        log.warning("%s is not continued from: %s is damaged", checkpoint, damaged)
    return None


class Saved(Protocol):
    """What of a trainer goes into a checkpoint, besides what transformers saves."""

    objective: Objective
    steps: list[dict]

    def outside_adapter(self) -> dict[str, torch.nn.Parameter]: ...


class MarkComplete(TrainerCallback):
    """Adds to every checkpoint the weights that transformers leaves out, the digests of its files and, last,
    a marker. A checkpoint without the marker was being written when the process ended.
    """

    trainer: Saved

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder = Path(given(args.output_dir, "a folder")) / f"checkpoint-{state.global_step}"
        self.trainer.objective.world.wait()  # each process writes its own random state
        if not state.is_world_process_zero:
            return
        if others := self.trainer.outside_adapter():
            save_file({name: p.detach().contiguous() for name, p in others.items()}, folder / OUTSIDE_ADAPTER)
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        (folder / STEPS).write_text(json.dumps(self.trainer.steps), encoding="utf-8")
        write_sums(folder)
        (folder / COMPLETE).touch()


class SaveAndStop(TrainerCallback):
    """Ends training with a checkpoint after the step in which ``must_end`` became true.

    transformers' ``enable_jit_checkpoint`` waits three seconds and may save between gradient and update. A
    run that continues from there ends with other weights.
    """

    def __init__(self, must_end: Callable[[], bool]):
        self.must_end = must_end

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.must_end():
            control.should_save = control.should_training_stop = True


@contextmanager
def readable(checkpoint: str | Path | None) -> Iterator[None]:
    """Raises UserError for anything that goes wrong while a checkpoint is read.

    transformers keeps optimiser, scheduler and random states as files of torch.save and reads only tensors
    and plain values from them (``weights_only``). A file with anything else ends up here.
    """
    try:
        yield
    except Exception as error:
        raise UserError(
            f"the checkpoint {checkpoint} cannot be continued from ({first_line(error)}): delete it and run "
            "again"
        ) from error
