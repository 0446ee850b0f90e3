"""Joint training, the upper bound: stage t trains a new adapter on tasks 1 to t, starting before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anamnesis.training.slices import Needs, Slice


def extra_work(stage: Any, settings: Mapping) -> Any:
    """All examples of the earlier tasks."""
    return stage.trained(stage.epochs * sum(past.train * past.example for past in stage.past))


SLICE = Slice(colours=("#8dd3c7", "#1f4e79"), needs=Needs(adapter="alone", past=True), extra_work=extra_work)
