"""The settings of training with a divergence from the model before all training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from anamnesis.core.fields import Flag, Number, Section
from anamnesis.training.slices import Slice


class KlBase(Section):
    """The model before all training is distilled on the new inputs; with token_weights anchored supervised
    fine-tuning (ASFT, arXiv 2509.23753).
    """

    weight: Number = Field(
        1.0, ge=0, description="Weight of the divergence, >= 0; 0: none. ASFT: 0.05 or 0.1."
    )
    positions: Literal["all", "output", "last_prompt"] = Field(
        "output",
        description="Tokens compared: output (those of the answer; ASFT's code), all or last_prompt.",
    )
    direction: Literal["student_teacher", "teacher_student"] = Field(
        "teacher_student",
        description="teacher_student: KL(before training || now), as in ASFT's code; student_teacher: the "
        "reverse.",
    )
    temperature: Number = Field(
        1.0, gt=0, description="Softmax temperature of both sides, > 0. ASFT's code: 1."
    )
    token_weights: Flag = Field(
        False,
        description="Whether the loss of an answer's token is weighted by the probability that the model "
        "gives it (ASFT).",
    )


def process_problems(settings: Mapping, name: str, processes: int, gpus: int) -> Iterable[str]:
    """A model on several GPUs, whose frozen weights no process can put back."""
    if gpus > 1 and settings["weight"]:
        yield (
            f"methods.kl-base.weight = {settings['weight']:g} (for {name}): the weights before training are "
            f"put back on one GPU only; set it to 0, or model.gpus = {gpus} to 1"
        )


def extra_work(stage: Any, settings: Mapping) -> Any:
    """The model before training on every example once, and both models' rows that are compared."""
    if not settings["weight"]:
        return stage.work(0)
    task = stage.task
    rows = task.answer if settings["positions"] == "output" else task.own(0) + task.answer
    return stage.work(stage.once.tokens, 2 * stage.examples * rows)


SLICE = Slice(
    colours=("#66a61e", "#7570b3"), settings=KlBase, process_problems=process_problems, extra_work=extra_work
)
