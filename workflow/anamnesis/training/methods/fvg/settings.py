"""The settings of function-vector guided training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from anamnesis.core.fields import Flag, Integer, Number, Section
from anamnesis.training.slices import Needs, Slice


class Fvg(Section):
    """Function-vector guided training (arXiv 2502.11019)."""

    consistency: Number = Field(
        1.0,
        ge=0,
        description="Weight of the squared change of the selected heads' outputs, >= 0. Authors' code: 1.",
    )
    kl_last: Number = Field(
        1.0,
        ge=0,
        description="Weight of the divergence at the last prompt token, >= 0. Authors' code: 1 or 20.",
    )
    kl_all: Number = Field(
        0.1,
        ge=0,
        description="Weight of the divergence over all positions, >= 0. Authors' code: 0.1 or 0.5.",
    )
    temperature: Number = Field(
        2.0, gt=0, description="Softmax temperature of both sides, > 0. Authors' code: 2."
    )
    layer: Integer | None = Field(
        None,
        ge=0,
        description="Layer to whose attention output the vector is added, counted from 0; null: at 9/32 of "
        "the depth. Authors' code: 9 of 32.",
    )
    gates: Flag = Field(
        False, description="Whether terms below a threshold are dropped. Authors' code: true."
    )


def process_problems(settings: Mapping, name: str, processes: int, gpus: int) -> Iterable[str]:
    """Gates in several processes."""
    if processes > 1 and settings["gates"]:
        yield (
            f"methods.fvg.gates = true (for {name}): no process sees the whole batch by which a term would "
            f"count or not; set it to false, or training.processes = {processes} to 1"
        )


def extra_work(stage: Any, settings: Mapping) -> Any:
    """The model before the stage on every example once, and the rows that are compared, forward and
    backward.
    """
    task = stage.task
    rows = task.own(0) + task.answer if settings["kl_all"] else 1.0
    return stage.work(stage.once.tokens + task.train, 3 * stage.examples * rows)


SLICE = Slice(
    colours=("#009e73", "#5e3c99"),
    needs=Needs(vector=True),
    settings=Fvg,
    process_problems=process_problems,
    extra_work=extra_work,
)
