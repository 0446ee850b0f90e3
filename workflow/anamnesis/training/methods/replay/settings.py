"""The settings of experience replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from anamnesis.core.fields import Number, Section
from anamnesis.training.slices import Needs, Slice


class Replay(Section):
    """Experience replay."""

    share: Number = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of every earlier task's training examples, in (0, 1]. TRACE: 0.1. Cost: so many "
        "more examples.",
    )
    when: Literal["mixed", "after"] = Field(
        "mixed", description="mixed (into the stage's batches) or after (trained on after them; TRACE)."
    )


def extra_work(stage: Any, settings: Mapping) -> Any:
    """A share of the examples of every earlier task."""
    examples = sum(settings["share"] * past.train * past.example for past in stage.past)
    return stage.trained(stage.epochs * examples)


SLICE = Slice(colours=("#56b4e9", "#7f3b08"), needs=Needs(past=True), settings=Replay, extra_work=extra_work)
