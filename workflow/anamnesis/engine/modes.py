"""Evaluation mode wherever nothing is trained, whatever mode the model is in.

An adapter that a stage continues is in training mode from the moment it is opened. Whatever is measured then
without asking for evaluation mode is measured under dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P, R = ParamSpec("P"), TypeVar("R")


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
        engine = args[0] if args else kwargs["engine"]
        with evaluation_mode(engine.model), torch.no_grad():
            return function(*args, **kwargs)

    return measured
