"""Evaluation mode wherever nothing is trained, whatever mode the model is in.

An adapter that a stage continues is in training mode from the moment it is opened, and transformers' Trainer
leaves the model in it. So the engine runs a model in evaluation mode, and a step of training says that it is
one: dropout nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")

_in_training_step: ContextVar[bool] = ContextVar("in_training_step", default=False)


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """A step of training, the only place with dropout; afterwards each module is in the mode it was in."""
    resting = [module for module in model.modules() if not module.training]
    model.train()
    token = _in_training_step.set(True)
    try:
        yield
    finally:
        _in_training_step.reset(token)
        for module in resting:
            module.training = False


def engine_mode(model: nn.Module) -> AbstractContextManager[None]:
    """The mode of a forward pass of the engine: in a step of training the one that the model is in, as a
    teacher within it is in evaluation mode; everywhere else evaluation mode.
    """
    # the root alone is looked at: all modules, at every token that is generated, would cost too much
    return evaluation_mode(model) if model.training and not _in_training_step.get() else nullcontext()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Without dropout inside; afterwards, errors included, each module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def measuring(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a function whose first argument is an engine: its model runs in evaluation mode and
    without gradients. Not for generators, which would leave the mode before they run.
    """

    @wraps(function)
    def measured(*args: P.args, **kwargs: P.kwargs) -> R:
        engine: Any = args[0] if args else kwargs["engine"]
        with evaluation_mode(engine.model), torch.no_grad():
            return function(*args, **kwargs)

    return measured
