"""The settings of instruction-vector guided training (arXiv 2406.12227, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from anamnesis.core.fields import Flag, Integer, Number, Section

OF_SEVERAL_TASKS = ("other_task", "shared", "centred")
"""Controls made from the mean head outputs of other training tasks."""


class Kl(Section):
    """The divergence between the model and its guided self."""

    weight: Number = Field(
        0.05,
        ge=0,
        description="Weight in the loss, >= 0; 0 switches the term off. Paper: 0.05, out of 1, 0.5, 0.25, "
        "0.05, 0.01.",
    )
    teacher: Literal["previous", "current"] = Field(
        "previous",
        description="Who is guided: previous (the model before this stage; authors' code) or current (the "
        "one in training; eq. 4). Cost: previous needs one more forward pass per step.",
    )
    positions: Literal["all", "output", "last_prompt"] = Field(
        "all",
        description="Tokens compared: all (authors' code), output (those of the answer; eq. 4) or "
        "last_prompt. Cost: most for all.",
    )
    direction: Literal["student_teacher", "teacher_student"] = Field(
        "student_teacher",
        description="student_teacher: KL(student || teacher), authors' code; teacher_student: KL(teacher || "
        "student).",
    )
    temperature: Number = Field(
        2.0,
        gt=0,
        description="Softmax temperature of both sides, > 0. Authors' code: 2; eq. 4 has none, that is 1.",
    )
    temperature_squared: Flag = Field(
        False,
        description="Whether the term is multiplied by the temperature squared, as distillation usually is. "
        "Authors' code: false.",
    )
    reduction: Literal["sum", "mean"] = Field(
        "sum",
        description="Over the positions of an example: sum (authors' code) or mean. Over examples it is "
        "always the mean.",
    )


class Guidance(Section):
    """Instruction-vector guided training, for the methods ending in -ivg (paper eq. 3 and 4)."""

    schedule: Literal["linear", "plateau"] = Field(
        "linear",
        description="How the strength s falls from 1 to 0: linear (paper) or plateau (1, steps of 0.1, 0; "
        "authors' code).",
    )
    plateau: Number = Field(
        0.25,
        ge=0,
        lt=0.5,
        description="Share of the steps at 1, and again at 0, in [0, 0.5); for the plateau schedule. "
        "Authors' code: 0.25.",
    )
    intervention: Flag = Field(
        True,
        description="Whether answers are learnt under the progressive intervention (eq. 3): true or false "
        "(the divergence alone).",
    )
    heads: Integer = Field(
        10, ge=1, description="Heads in use, from the top of the ranking, >= 1. Paper: 10."
    )
    kl: Kl = Field(default_factory=Kl)
    share: Number = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the new examples of a batch that are learnt under the intervention, in (0, "
        "1]: rounded to the nearest number, at least one, drawn for each batch. The divergence covers all. "
        "Paper: all.",
    )
    control: Literal["none", "random_heads", "random_vectors", "other_task", "shared", "centred"] = Field(
        "none",
        description="What is added in place of the selected heads' mean outputs on the task: none "
        "(nothing else), or a control:\n"
        "  random_heads    mean outputs of as many heads, drawn from those not selected\n"
        "  random_vectors  random vectors that change the residual stream by as much, head by head\n"
        "  other_task      mean outputs on the next training task of order 1 (after the last, the first)\n"
        "  shared          their average over all training tasks\n"
        "  centred         the task's own minus that average\n"
        "The last three take vectors_from: initial; other_task and centred, two training tasks or more.",
    )
    vectors_from: Literal["initial", "current"] = Field(
        "initial",
        description="Mean activations of the model before any training (initial) or at the start of each "
        "stage (current). Cost: current computes the activations again for every stage.",
    )


def control_tasks(control: str, task: str, tasks: Sequence[str]) -> list[str]:
    """The tasks whose mean head outputs a control is made from when ``task`` is learnt, in the order of
    ``tasks`` (the first order of the suite, so that all chains have the same); none for other controls.
    """
    if control == "other_task":
        return [tasks[(list(tasks).index(task) + 1) % len(tasks)]]
    return list(tasks) if control in OF_SEVERAL_TASKS else []
