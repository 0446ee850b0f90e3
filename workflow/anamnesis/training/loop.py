"""One stage of training with transformers' Trainer, resumable at any optimiser step."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from anamnesis.core.artifacts import SUMS, damaged_file, write_sums
from anamnesis.core.errors import UserError, first_line, unknown
from anamnesis.core.recovery import sigterm_received
from anamnesis.engine.batches import Batch
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import check_adapter
from anamnesis.training.objectives import Loss, Objective

log = logging.getLogger(__name__)
COMPLETE = "complete"
STEPS = "steps.json"
OTHERS = "others.safetensors"


def train_stage(
    engine: PrefixEngine,
    batches: Sequence[Batch],
    objective: Objective,
    settings: Mapping,
    seed: int,
    checkpoints: Path,
) -> pd.DataFrame:
    """Train what is trainable of the engine's model, in place, on the batches in their order; returns the
    log, one row per forward pass (loss parts, learning rate), of which ``gradient_accumulation`` make an
    optimiser step.

    ``settings``: the section ``training`` of the configuration. ``checkpoints`` keeps optimiser, random
    states and position every ``checkpoint_steps`` steps; a later call with the same arguments goes on from
    the newest whole one and ends with the same weights, bit for bit on a CPU. Raises UserError after SIGTERM,
    with a checkpoint of the step that was under way. In every process of ``objective.world`` the call is the
    same, and so is its result; the first one writes the checkpoints.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    trainer = trainer_of(engine, batches, objective, settings, seed, checkpoints)
    start = newest_checkpoint(checkpoints)
    if start is not None:
        log.info("continuing from %s", start.name)
    world, trained = objective.world, [p for p in engine.model.parameters() if p.requires_grad]
    world.begin_alike(trained)
    with sigterm_received() as trainer.told:
        trainer.add_callback(SaveAndStop(lambda: trainer.must_end))
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    world.check_alike(trained)
    done, planned = trainer.state.global_step, trainer.state.max_steps
    if trainer.must_end and done < planned:
        raise UserError(
            f"training was told to end (SIGTERM) and did after step {done} of {planned}: nothing is lost, "
            "the same command goes on from there"
        )
    return pd.DataFrame(trainer.steps)


def trainer_of(
    engine: PrefixEngine,
    batches: Sequence[Batch],
    objective: Objective,
    settings: Mapping,
    seed: int,
    checkpoints: Path,
) -> StageTrainer:
    """The trainer of a stage, with the arguments of :func:`train_stage`."""
    return StageTrainer(
        engine=engine,
        objective=objective,
        scheduler=settings["scheduler"],
        model=engine.model,
        # dropout is drawn by each process for itself
        args=_arguments(settings, seed + objective.world.rank, checkpoints, engine.device),
        train_dataset=list(batches),
        data_collator=lambda items: {"batch": items[0]},
        callbacks=[MarkComplete()],
        optimizer_cls_and_kwargs=_optimizer_class(settings),
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end and is still what was written, or None."""
    ended = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    for checkpoint in sorted(ended, key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True):
        damaged = damaged_file(checkpoint) if (checkpoint / SUMS).exists() else SUMS
        if damaged is None:
            return checkpoint
        log.warning("%s is not continued from: %s is damaged", checkpoint, damaged)
    return None


class MarkComplete(TrainerCallback):
    """Adds to every checkpoint what transformers leaves out, the digests of its files and, last, a marker:
    what lacks it, or is no longer what was written, is not resumed from.
    """

    trainer: StageTrainer

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.trainer.objective.world.wait()  # each process writes its own random state
        if not state.is_world_process_zero:
            return
        if others := self.trainer.outside_adapter():
            save_file({name: p.detach().contiguous() for name, p in others.items()}, folder / OTHERS)
        (folder / "training_args.bin").unlink(missing_ok=True)  # pickled, and read by nobody
        (folder / STEPS).write_text(json.dumps(self.trainer.steps), encoding="utf-8")
        write_sums(folder)
        (folder / COMPLETE).touch()


class SaveAndStop(TrainerCallback):
    """Ends training with a checkpoint once the step is over in which ``must_end`` became true.

    transformers' own form of it (``enable_jit_checkpoint``) waits three seconds, and may save between
    gradient and update, from where nobody can go on to the same weights.
    """

    def __init__(self, must_end: Callable[[], bool]):
        self.must_end = must_end

    def on_step_end(self, args, state, control, **kwargs):
        if self.must_end():
            control.should_save = control.should_training_stop = True


class StageTrainer(Trainer):
    """Trainer whose data are whole batches in a fixed order and whose loss is an :class:`Objective`, which
    divides each batch among the processes of its world.

    ``told``: whether this process has been told to end; ``must_end``: whether one of them has.
    """

    def __init__(self, engine: PrefixEngine, objective: Objective, scheduler: str, **kwargs):
        super().__init__(**kwargs)
        self.engine, self.objective, self.scheduler_name = engine, objective, scheduler
        self.model_accepts_loss_kwargs = False  # losses are means: average them over accumulated batches
        # Gradients are added up in training_step. A DistributedDataParallel around the model would not see
        # the engine's forward passes, which are the model's own, nor know of two losses with a gradient each.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self.steps: list[dict] = []
        self.told, self.must_end = (lambda: False), False
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MarkComplete):
                callback.trainer = self

    def outside_adapter(self) -> dict[str, torch.nn.Parameter]:
        """What is trained besides the adapter, which PEFT saves by itself."""
        own = self.model.base_model.prefix
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad and own not in n}

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        folder = Path(resume_from_checkpoint)
        with _readable(folder):
            check_adapter(folder)
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            self.steps = json.loads((folder / STEPS).read_text(encoding="utf-8"))
            if others := self.outside_adapter():
                saved = load_file(folder / OTHERS)
                for name, parameter in others.items():
                    parameter.data.copy_(saved[name])

    def _load_optimizer_and_scheduler(self, checkpoint):
        with _readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint):
        with _readable(checkpoint):
            super()._load_rng_state(checkpoint)

    def get_train_dataloader(self):
        # accelerate would give each process other batches
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        loss = self.objective(self.engine, inputs["batch"], self.state.global_step / self.state.max_steps)
        share = self.current_gradient_accumulation_steps
        rate = self.lr_scheduler.get_last_lr()[0] if self.lr_scheduler else self.args.learning_rate
        self._add_gradient(loss, share)
        numbers = [loss.total.item(), *loss.parts.values(), float(self.told())]
        total, *parts, told = self.objective.world.total(numbers)
        self.must_end = self.must_end or told > 0
        record = {"step": self.state.global_step, "learning_rate": float(rate), "loss": total}
        self.steps.append(record | dict(zip(loss.parts, parts, strict=True)))
        return loss.total.detach().new_tensor(total / share)

    def _add_gradient(self, loss: Loss, share: int) -> None:
        """Add the gradient of the loss, or the combined one of its two, over all processes."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        before = [p.grad for p in parameters]
        gradient = self._gradient(parameters, loss.total)
        if loss.protected is not None:
            protected_loss = loss.protected()
            loss.parts["protected"] = protected_loss.item()
            both = (gradient, self._gradient(parameters, protected_loss))
            gradient = self.objective.combine(*(_without_gaps(g, parameters) for g in both))
        for p, old, new in zip(parameters, before, gradient, strict=True):
            added = None if new is None else new / share
            p.grad = added if old is None else old if added is None else old + added

    def _gradient(self, parameters, loss: torch.Tensor) -> list[torch.Tensor | None]:
        """The gradient of one loss alone, over all processes; None for what no process used."""
        for p in parameters:
            p.grad = None
        if loss.requires_grad:
            self.accelerator.backward(loss)
        return self.objective.world.summed([p.grad for p in parameters], parameters)

    def floating_point_ops(self, inputs) -> int:
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if "." not in self.scheduler_name:
            return super().create_scheduler(num_training_steps, optimizer)
        cls = _import(self.scheduler_name, "training.scheduler", LRScheduler)
        known = inspect.signature(cls).parameters
        spans = {
            name: num_training_steps for name in ("T_max", "total_iters", "total_steps") if name in known
        }
        self.lr_scheduler = cls(optimizer or self.optimizer, **spans)
        return self.lr_scheduler


@contextmanager
def _readable(checkpoint: str | Path | None) -> Iterator[None]:
    """transformers keeps optimiser, scheduler and random states as files of torch.save. It reads tensors and
    plain values from them and nothing that could run (``weights_only``); what else is in one ends up here.
    """
    try:
        yield
    except Exception as error:
        raise UserError(
            f"the checkpoint {checkpoint} cannot be continued from ({first_line(error)}): delete it and run "
            "again"
        ) from error


def _without_gaps(gradient, parameters) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, parameters, strict=True)]


def _arguments(settings: Mapping, seed: int, folder: Path, device: torch.device) -> TrainingArguments:
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
    return _import(name, "training.optimizer", torch.optim.Optimizer), {
        "lr": settings["learning_rate"],
        "weight_decay": settings["weight_decay"],
    }


def _import(name: str, key: str, kind: type) -> type:
    """A class of that kind from torch.optim or transformers by its dotted name; nothing else is imported, and
    nothing else called, because a configuration says so.
    """
    module, _, attribute = name.rpartition(".")
    if not f"{module}.".startswith(("torch.optim.", "transformers.")):
        raise UserError(
            f"{key} is '{name}': give a name that transformers knows, or a class of torch.optim or "
            "transformers"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key} is '{name}', which does not exist ({error}): check its spelling") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise UserError(
            f"{key} is '{name}', which is no {kind.__name__}: give the name of a class that is one"
        )
    return found
