"""The settings of learning without forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from anamnesis.core.fields import Flag, Number, Section
from anamnesis.training.slices import Slice


class Lwf(Section):
    """Learning without forgetting (arXiv 1606.09282): the model before the stage is distilled on the new
    inputs.
    """

    weight: Number = Field(1.0, ge=0, description="Weight of the distillation, >= 0.")
    positions: Literal["all", "output", "last_prompt"] = Field(
        "output", description="Tokens compared: output (those of the answer), all or last_prompt."
    )
    direction: Literal["student_teacher", "teacher_student"] = Field(
        "teacher_student",
        description="teacher_student: KL(teacher || student), as in its paper; student_teacher: the reverse.",
    )
    temperature: Number = Field(
        2.0, gt=0, description="Softmax temperature of both sides, > 0. Its paper: 2."
    )
    temperature_squared: Flag = Field(
        True, description="Whether the term is multiplied by the temperature squared."
    )
    reduction: Literal["sum", "mean"] = Field(
        "mean",
        description="Over the positions of an example: mean or sum. Over examples it is always the mean.",
    )


def extra_work(stage: Any, settings: Mapping) -> Any:
    """The model before the stage on every example once, and both models' rows that are compared."""
    task = stage.task
    rows = task.answer if settings["positions"] == "output" else task.own(0) + task.answer
    return stage.work(stage.once.tokens, 2 * stage.examples * rows)


SLICE = Slice(colours=("#cc79a7", "#44607a"), settings=Lwf, extra_work=extra_work)
