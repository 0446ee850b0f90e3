"""Settings of the measurements within a stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import Integer, Section


class WithinStage(Section):
    """From step to step within a stage, which is trained once more for it, to the same weights; on the
    held-out ones of the sets above, or all where none is held out.
    """

    stages: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (1,),
        min_length=1,
        description="Stages looked into, counted from 1. Cost: one job per stage and chain, with the "
        "stage's training in it.",
    )
    points: Integer = Field(
        4,
        ge=0,
        description="Measurements after the one at the start of the stage, evenly spaced over its steps, >= "
        "0; 0: none at all. Cost: two to three forward passes each for every set and every one of "
        "effect_prompts.",
    )
