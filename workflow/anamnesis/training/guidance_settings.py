"""The settings of instruction-vector guided training (arXiv 2406.12227, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from anamnesis.core.fields import Flag, Integer, Number, Section

OF_SEVERAL_TASKS = ("other_task", "shared", "centred")
"""Controls made from the mean head outputs of other training tasks."""


class Kl(Section):
    """The divergence term of guided training (paper eq. 4)."""

    weight: Number = Field(
        0.05, ge=0, description="Weight in the loss (>= 0). Paper: 0.05, out of 1, 0.5, 0.25, 0.05, 0.01."
    )
    teacher: Literal["previous", "current"] = Field(
        "previous",
        description="Who is guided: the model before this stage (authors' code) or the model being trained "
        "(eq. 4 as printed). previous costs one more forward pass.",
    )
    positions: Literal["all", "output", "last_prompt"] = Field(
        "all",
        description="Token positions compared: all (authors' code), those of the answer (eq. 4), or the last "
        "one of the prompt.",
    )
    direction: Literal["student_teacher", "teacher_student"] = Field(
        "student_teacher",
        description="KL(student || teacher), as in the authors' code, or KL(teacher || student).",
    )
    temperature: Number = Field(
        2.0, gt=0, description="Softmax temperature of both sides (> 0). Authors' code: 2."
    )
    temperature_squared: Flag = Field(
        False, description="Whether the term is multiplied by the temperature squared. Authors' code: no."
    )
    reduction: Literal["sum", "mean"] = Field(
        "sum",
        description="Over the positions of an example: sum (authors' code) or mean. Over examples: mean.",
    )


class Guidance(Section):
    """Instruction-vector guided training, used by every method ending in -ivg (paper eq. 3 and 4)."""

    schedule: Literal["linear", "plateau"] = Field(
        "linear",
        description="How the strength s falls from 1 to 0: linear (paper), or 1, then steps of 0.1, then 0 "
        "(plateau, authors' code).",
    )
    plateau: Number = Field(
        0.25,
        ge=0,
        lt=0.5,
        description="Share of the steps at 1 and again at 0, in [0, 0.5); plateau schedule only.",
    )
    intervention: Flag = Field(
        True,
        description="Whether the answers are learnt under the progressive intervention (eq. 3); false leaves "
        "the divergence term alone.",
    )
    heads: Integer = Field(
        10, ge=1, description="So many heads, from the top of the ranking (>= 1). Paper: 10."
    )
    kl: Kl = Field(default_factory=Kl, description="The divergence term.")
    share: Number = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a batch's new examples that are learnt under the intervention, in (0, 1]: "
        "rounded to the nearest number, at least one, drawn for each batch. The divergence term covers all. "
        "Paper: all.",
    )
    control: Literal["none", "random_heads", "random_vectors", "other_task", "shared", "centred"] = Field(
        "none",
        description="A control in place of the selected heads' mean outputs on the task: as many heads drawn "
        "from those not selected; random vectors that change the residual stream by as much, head by head; "
        "the mean outputs on another training task (the next one of the first order); those averaged over "
        "all training tasks; or the task's own minus that average.",
    )
    vectors_from: Literal["initial", "current"] = Field(
        "initial",
        description="Mean activations of the model before any training, or at the start of each stage.",
    )


def control_tasks(control: str, task: str, tasks: Sequence[str]) -> list[str]:
    """The tasks whose mean head outputs a control is made from when ``task`` is learnt, in the order of
    ``tasks`` (the first order of the suite, so that all chains have the same); none for other controls.
    """
    if control == "other_task":
        return [tasks[(list(tasks).index(task) + 1) % len(tasks)]]
    return list(tasks) if control in OF_SEVERAL_TASKS else []
