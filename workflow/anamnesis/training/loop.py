"""One stage of training with transformers' Trainer, resumable at any optimiser step."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PrinterCallback, Trainer

from anamnesis.core.errors import UserError
from anamnesis.core.progress import progress
from anamnesis.core.recovery import sigterm_received
from anamnesis.core.trackers import Reporter
from anamnesis.engine.batches import Batch
from anamnesis.engine.modes import training_mode
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import check_adapter
from anamnesis.training.checkpoints import (
    OUTSIDE_ADAPTER,
    STEPS,
    MarkComplete,
    SaveAndStop,
    newest_checkpoint,
    readable,
)
from anamnesis.training.objectives import Loss, Objective
from anamnesis.training.reports import Report
from anamnesis.training.trainer_options import import_class, optimizer_class, trainer_arguments

if TYPE_CHECKING:
    from torch.optim import Optimizer

log = logging.getLogger(__name__)


def train_stage(
    engine: PrefixEngine,
    batches: Sequence[Batch],
    objective: Objective,
    settings: Mapping,
    seed: int,
    checkpoints: Path,
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """Train the trainable weights of the engine's model, in place, on the batches in their order. Returns the
    log: one row per forward pass (loss parts, learning rate). ``gradient_accumulation`` of them make an
    optimiser step.

    ``settings``: the section ``training`` of the configuration. ``checkpoints``: a folder that gets
    optimiser, random states and position every ``checkpoint_steps`` steps. A later call with the same
    arguments continues from the newest complete one and ends with the same weights, bit for bit on a CPU.
    Raises UserError after SIGTERM, with a checkpoint of the current step. All processes of
    ``objective.world`` make the same call and get the same result; the first one writes the checkpoints, and
    tells the ``reporter`` how the loss goes on, which changes nothing else.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    every = reporter.every if reporter else None
    trainer = trainer_of(engine, batches, objective, settings, seed, checkpoints, every)
    start = newest_checkpoint(checkpoints)
    if start is not None:
        log.info("continuing from %s", start.name)
    world, trained = objective.world, [p for p in engine.model.parameters() if p.requires_grad]
    world.broadcast_from_rank0(trained)
    with sigterm_received() as trainer.told, progress(len(batches), "training") as trainer.advance:
        trainer.add_callback(SaveAndStop(lambda: trainer.must_end))
        if reporter:
            trainer.add_callback(Report(reporter, lambda: trainer.steps))
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    world.check_equal(trained)
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
    report_every: int | None = None,
) -> StageTrainer:
    """The trainer of a stage, with the arguments of :func:`train_stage`. ``report_every``: so many steps, its
    callbacks are told of loss and gradient; None: never.
    """
    return StageTrainer(
        engine=engine,
        objective=objective,
        scheduler=settings["scheduler"],
        model=engine.model,
        # Every process has other examples of a batch and draws their dropout from a seed of its own.
        args=trainer_arguments(
            settings, seed + objective.world.rank, checkpoints, engine.device, report_every
        ),
        train_dataset=list(batches),
        data_collator=lambda items: {"batch": items[0]},
        callbacks=[MarkComplete()],
        optimizer_cls_and_kwargs=optimizer_class(settings),
    )


class StageTrainer(Trainer):
    """Trainer whose data are whole batches in a fixed order and whose loss is an :class:`Objective`, which
    divides each batch among the processes of its world.

    ``told``: whether this process has been told to end; ``must_end``: whether one of them has.
    ``advance`` takes the number of batches just done and what is worth knowing of them.
    """

    engine: PrefixEngine
    objective: Objective
    model: PreTrainedModel  # with the stage's adapter
    train_dataset: Dataset

    def __init__(self, engine: PrefixEngine, objective: Objective, scheduler: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)
        self.engine, self.objective, self.scheduler_name = engine, objective, scheduler
        self.model_accepts_loss_kwargs = False  # losses are means: average them over accumulated batches
        # Gradients are added up in training_step. DistributedDataParallel would not see the forward passes,
        # as the engine calls the wrapped model, and it knows no second loss with a gradient of its own.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self.steps: list[dict] = []
        self.told, self.must_end = (lambda: False), False
        self.advance = lambda done, note="": None
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MarkComplete):
                callback.trainer = self

    def outside_adapter(self) -> dict[str, torch.nn.Parameter]:
        """What is trained in addition to the adapter, which PEFT saves by itself."""
        adapter = str(self.model.base_model.prefix)
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad and adapter not in n}

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        folder = Path(resume_from_checkpoint)
        with readable(folder):
            check_adapter(folder)
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            self.steps = json.loads((folder / STEPS).read_text(encoding="utf-8"))
            self.advance(len(self.steps))
            if others := self.outside_adapter():
                saved = load_file(folder / OUTSIDE_ADAPTER)
                for name, parameter in others.items():
                    parameter.data.copy_(saved[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_rng_state(checkpoint)

    def get_train_dataloader(self) -> DataLoader:
        # Trainer's own loader, prepared by accelerate, would give each process other batches.
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        share, progress = (
            self.current_gradient_accumulation_steps,
            self.state.global_step / self.state.max_steps,
        )
        rate = self.lr_scheduler.get_last_lr()[0] if self.lr_scheduler else self.args.learning_rate
        with training_mode(model):
            loss = self.objective(self.engine, inputs["batch"], progress)
            self._add_gradient(loss, share)
        numbers = [loss.total.item(), *loss.parts.values(), float(self.told())]
        total, *parts, told = self.objective.world.total(numbers)
        self.must_end = self.must_end or told > 0
        record = {"step": self.state.global_step, "learning_rate": float(rate), "loss": total}
        self.steps.append(record | dict(zip(loss.parts, parts, strict=True)))
        self.advance(1, f"loss {total:.4f}")
        return loss.total.detach().new_tensor(total / share)

    def _add_gradient(self, loss: Loss, share: int) -> None:
        """Add the gradient of the loss, or the combined one of its two, over all processes."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        before = [p.grad for p in parameters]
        gradient: Sequence[torch.Tensor | None] = self._gradient(parameters, loss.total)
        if loss.protected is not None:
            protected_loss = loss.protected()
            loss.parts["protected"] = protected_loss.item()
            both = (gradient, self._gradient(parameters, protected_loss))
            gradient = self.objective.combine(*(_without_gaps(g, parameters) for g in both))
        for p, old, new in zip(parameters, before, gradient, strict=True):
            added = None if new is None else new / share
            p.grad = added if old is None else old if added is None else old + added

    def _gradient(
        self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """The gradient of one loss alone, over all processes; None for what no process used."""
        for p in parameters:
            p.grad = None
        if loss.requires_grad:
            self.accelerator.backward(loss)
        return self.objective.world.summed([p.grad for p in parameters], parameters)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        if "." not in self.scheduler_name:
            return super().create_scheduler(num_training_steps, optimizer)
        cls = import_class(self.scheduler_name, "training.scheduler", LRScheduler)
        known = inspect.signature(cls).parameters
        spans = {
            name: num_training_steps for name in ("T_max", "total_iters", "total_steps") if name in known
        }
        self.lr_scheduler = cls(optimizer or self.optimizer, **spans)
        return self.lr_scheduler


def _without_gaps(
    gradient: Sequence[torch.Tensor | None], parameters: Sequence[torch.nn.Parameter]
) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, parameters, strict=True)]
