"""The section ``trackers`` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from anamnesis.core.fields import Integer, Name, Section

Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class Trackers(Section):
    """Metrics of training and evaluation while a run goes on, in the trackers that you use. No result depends
    on this section: whatever changes here, nothing is made again. docs/how-to/trackers.md says what is where.
    """

    report_to: tuple[Tracker, ...] = Field(
        (),
        description="tensorboard, mlflow, wandb or trackio, any number of them; each is a Python package of "
        "that name.",
    )
    logging_steps: Integer = Field(1, ge=1, description="Optimiser steps between two reports, >= 1.")
    project: Name = Field(
        "anamnesis",
        description="Project (of wandb and trackio) or experiment (of mlflow) that the runs are put into, "
        "unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME name another.",
    )

    def contradictions(self) -> Iterator[str]:
        for name in self.report_to:
            if find_spec(name) is None:
                yield (
                    f"report_to: the package {name} is not installed; install it (pip install {name}), or "
                    "leave it out"
                )
