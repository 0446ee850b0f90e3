"""The section ``training`` in the words of transformers' Trainer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from anamnesis.core.environment import ACCELERATE, check_environment
from anamnesis.core.errors import UserError, unknown


def trainer_arguments(
    settings: Mapping, seed: int, folder: Path, device: torch.device, report_every: int | None = None
) -> TrainingArguments:
    """What transformers' Trainer is told. ``folder``: of checkpoints; ``report_every``: so many steps it
    tells its callbacks of loss and gradient. Raises UserError for names it lacks, and for variables of the
    environment that it would obey.
    """
    check_environment(*ACCELERATE)
    optimizer, scheduler = settings["optimizer"], settings["scheduler"]
    if "." not in optimizer and optimizer not in {o.value for o in OptimizerNames}:
        raise unknown("optimizer (training.optimizer)", optimizer, [o.value for o in OptimizerNames])
    if "." not in scheduler and scheduler not in {s.value for s in SchedulerType}:
        raise unknown("scheduler (training.scheduler)", scheduler, [s.value for s in SchedulerType])
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the list of batches covers all epochs
        per_device_train_batch_size=1,  # item of that list
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
        # The newest one may be incomplete when the machine stops. Then training continues from the other.
        save_total_limit=2,
        logging_strategy="steps" if report_every else "no",
        logging_steps=report_every or 1,
        report_to="none",
        disable_tqdm=True,  # the job's log has the progress
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=device.type == "cpu",
    )
    # The Trainer multiplies the batch size by the number of visible GPUs. A process of a stage uses one.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def optimizer_class(settings: Mapping) -> Any:
    """(class, its arguments) of an optimiser with a dotted name; None for one that transformers knows."""
    name = settings["optimizer"]
    if "." not in name:
        return None
    return import_class(name, "training.optimizer", torch.optim.Optimizer), {
        "lr": settings["learning_rate"],
        "weight_decay": settings["weight_decay"],
    }


def import_class(name: str, key: str, kind: type) -> type:
    """The class called ``name`` of torch.optim or transformers, a subclass of ``kind``. ``key``: where the
    configuration names it. No other module is imported, so that a configuration cannot run code.
    """
    module, _, attribute = name.rpartition(".")
    if not f"{module}.".startswith(("torch.optim.", "transformers.")):
        raise UserError(
            f"{key} is '{name}': give a name that transformers knows, or a class of torch.optim or "
            "transformers"
        )
    try:
        imported = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key} is '{name}', which does not exist ({error}): check its spelling") from error
    if not (isinstance(imported, type) and issubclass(imported, kind)):
        raise UserError(
            f"{key} is '{name}', which is no {kind.__name__}: give the name of a class that is one"
        )
    return imported
