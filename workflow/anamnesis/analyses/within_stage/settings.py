"""Settings of the measurements within a stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import Integer, Section


class WithinStage(Section):
    """How effects and outputs of heads change from step to step of a stage, which is trained once more."""

    stages: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (1,), min_length=1, description="Stages looked into, counted from 1. Cost: training each once more."
    )
    points: Integer = Field(
        4,
        ge=0,
        description="Measurements after the one at the start of the stage, evenly spaced over its steps; 0: "
        "none at all. Cost: two to three forward passes per prompt and set each.",
    )
