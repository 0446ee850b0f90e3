"""Settings of the vectors made from few prompts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import Integer, Section


class Robustness(Section):
    """How much vectors depend on the prompts they are made from: those of heads, and optimised ones; on the
    same sets.
    """

    prompts: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (5, 10, 20, 40),
        description="Numbers of prompts that a vector is made from, >= 1; an empty list: not done. Cost: "
        "one prompt each, per draw.",
    )
    draws: Integer = Field(
        3,
        ge=2,
        description="Vectors of each kind and number, no two of them from a common prompt, >= 2. Cost: "
        "optimising is a training step of the batch per step and vector.",
    )
    steps: Integer = Field(
        10, ge=1, description="Steps of Adam, >= 1; vectors.optimised has all other settings."
    )
