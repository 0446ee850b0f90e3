"""Learning without forgetting (Li and Hoiem, arXiv 1606.09282): the model before the stage is distilled on
the new task's inputs.
"""

from __future__ import annotations

from anamnesis.training.distillation import Distillation, KlSettings
from anamnesis.training.method import Method


class Lwf(Method):
    """λ · T² · KL(before ‖ now), unless the configuration says otherwise."""

    def terms(self) -> list[Distillation]:
        return [Distillation("lwf", KlSettings(**self.stage.settings), self.stage.reference())]


METHOD = Lwf
