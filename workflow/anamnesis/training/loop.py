"""One stage of training with transformers' Trainer, resumable at any optimiser step."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from anamnesis.errors import UserError, unknown
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.examples import Example
from anamnesis.training.objectives import Objective

log = logging.getLogger(__name__)
COMPLETE = "complete.json"


def train_stage(
    model, examples: Sequence[Example], objective: Objective, settings: Mapping, seed: int, checkpoints: Path
) -> pd.DataFrame:
    """Train the adapter of ``model`` in place; returns the log, one row per forward pass (loss parts,
    learning rate), of which ``gradient_accumulation`` make an optimiser step.

    ``settings``: the section ``training`` of the configuration. ``checkpoints`` keeps optimiser, random
    states and position every ``checkpoint_steps`` steps; a later call with the same arguments goes on from
    the newest whole one and ends with the same weights, bit for bit on a CPU.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    trainer = StageTrainer(
        objective=objective,
        scheduler=settings["scheduler"],
        model=model,
        args=_arguments(settings, seed, checkpoints, next(model.parameters()).device),
        train_dataset=[{"example": example} for example in examples],
        data_collator=lambda batch: {"examples": [item["example"] for item in batch]},
        callbacks=[MarkComplete()],
        optimizer_cls_and_kwargs=_optimizer_class(settings),
    )
    start = newest_checkpoint(checkpoints)
    if start is not None:
        log.info("continuing from %s", start.name)
    trainer.train(resume_from_checkpoint=str(start) if start else None)
    return pd.DataFrame(trainer.steps)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


class MarkComplete(TrainerCallback):
    """Writes a marker, and the log so far, as the last file of every checkpoint: what lacks it is not resumed
    from.
    """

    trainer: StageTrainer

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / COMPLETE).write_text(json.dumps(self.trainer.steps), encoding="utf-8")


class StageTrainer(Trainer):
    """Trainer whose loss is an :class:`Objective` over packed trees."""

    def __init__(self, objective: Objective, scheduler: str, **kwargs):
        super().__init__(**kwargs)
        self.objective, self.scheduler_name = objective, scheduler
        self.model_accepts_loss_kwargs = False  # losses are means: average them over accumulated batches
        self.engine = PrefixEngine(self.model)
        self.steps: list[dict] = []
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MarkComplete):
                callback.trainer = self

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.steps = json.loads((Path(resume_from_checkpoint) / COMPLETE).read_text(encoding="utf-8"))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        state = self.state
        loss = self.objective(self.engine, inputs["examples"], state.global_step / state.max_steps)
        rate = self.lr_scheduler.get_last_lr()[0] if self.lr_scheduler else self.args.learning_rate
        self.steps.append(
            {"step": state.global_step, "learning_rate": float(rate), "loss": loss.total.item(), **loss.parts}
        )
        return loss.total

    def floating_point_ops(self, inputs) -> int:
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if "." not in self.scheduler_name:
            return super().create_scheduler(num_training_steps, optimizer)
        cls = _import(self.scheduler_name, "training.scheduler")
        known = inspect.signature(cls).parameters
        spans = {
            name: num_training_steps for name in ("T_max", "total_iters", "total_steps") if name in known
        }
        self.lr_scheduler = cls(optimizer or self.optimizer, **spans)
        return self.lr_scheduler


def _arguments(settings: Mapping, seed: int, folder: Path, device: torch.device) -> TrainingArguments:
    optimizer, scheduler = settings["optimizer"], settings["scheduler"]
    if "." not in optimizer and optimizer not in {o.value for o in OptimizerNames}:
        raise unknown("optimizer (training.optimizer)", optimizer, [o.value for o in OptimizerNames])
    if "." not in scheduler and scheduler not in {s.value for s in SchedulerType}:
        raise unknown("scheduler (training.scheduler)", scheduler, [s.value for s in SchedulerType])
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        warmup_steps=settings["warmup_ratio"],
        optim="adamw_torch" if "." in optimizer else optimizer,
        lr_scheduler_type="constant" if "." in scheduler else scheduler,
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=settings["checkpoint_steps"],
        # the newest may be half written when the machine stops: the one before it is whole
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=device.type == "cpu",
    )
    # With several GPUs in sight the Trainer would multiply the batch size by their number: a stage uses one.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _optimizer_class(settings: Mapping):
    name = settings["optimizer"]
    if "." not in name:
        return None
    return _import(name, "training.optimizer"), {
        "lr": settings["learning_rate"],
        "weight_decay": settings["weight_decay"],
    }


def _import(name: str, key: str):
    """A class from torch.optim or transformers by its dotted name; nothing else is imported from a
    configuration.
    """
    module, _, attribute = name.rpartition(".")
    if not module.startswith(("torch.optim", "transformers")):
        raise UserError(
            f"{key} is '{name}': give a name that transformers knows, or a class of torch.optim or "
            f"transformers"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key} is '{name}', which does not exist ({error}): check its spelling") from error
