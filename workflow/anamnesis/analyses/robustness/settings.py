"""Settings of the vectors made from few prompts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import Integer, Section


class Robustness(Section):
    """How much vectors of heads, and optimised ones, depend on the prompts they are made from."""

    prompts: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (5, 10, 20, 40),
        description="Numbers of prompts that vectors are made from (>= 1); may be empty: not done.",
    )
    draws: Integer = Field(
        3,
        ge=2,
        description="Vectors of each kind and number, from prompts of which none is in two of them (>= 2). "
        "Cost: optimising takes a training step of the batch per step.",
    )
    steps: Integer = Field(10, ge=1, description="Steps of Adam (>= 1); all else is as in vectors.optimised.")
