"""Settings of the shift on the new task."""

from __future__ import annotations

from pydantic import Field

from anamnesis.core.fields import Integer, Section


class Shift(Section):
    """How far each stage moves the model on the inputs of its task (arXiv 2509.04259)."""

    examples: Integer = Field(
        16,
        ge=0,
        description="At most so many test examples of the task; 0: not done. Cost: two forward passes each.",
    )
