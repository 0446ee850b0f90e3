"""Function-vector guided training (arXiv 2502.11019): the selected heads keep their outputs, and the student
stays near what the model before the stage predicts once the new task's vector is added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from anamnesis.core.errors import UserError, given
from anamnesis.engine.hooks import added_to_attention
from anamnesis.engine.pack import Pack
from anamnesis.training.distillation import Distillation, KlSettings
from anamnesis.training.method import Method
from anamnesis.training.objectives import Term
from anamnesis.training.reference import Change, Reference
from anamnesis.training.student import PassNeeds, Student

HEAD_GATE, KL_GATE = 0.01, 0.1  # a term of the authors' code counts only above its gate
DEPTH = 9 / 32  # of the layer the vector is added at: the authors' 9 of 32


class HeadConsistency:
    """weight · Σ over (l, j) in S of the mean squared change of h_lj at the last prompt token (mean over
    examples and the head's dimensions). Heads that changed less than ``gate`` do not count.
    """

    name, needs = "heads", PassNeeds(heads=True)

    def __init__(
        self, weight: float, selected: Sequence[tuple[int, int]], before: Reference, gate: float = 0.0
    ):
        self.weight, self.before, self.gate = weight, before, gate
        self.layers, self.heads = (list(column) for column in zip(*selected, strict=True))

    def __call__(self, student: Student) -> torch.Tensor:
        if not student.examples:
            return student.answers.new_zeros(())
        now, before = (
            outputs[self.layers, :, self.heads].float()
            for outputs in (given(student.heads, "outputs of heads"), self.before.heads(student.examples))
        )
        change = (now - before).square().mean((1, 2))
        return self.weight * change[change > self.gate].sum() if self.gate else self.weight * change.sum()


class Gated:
    """A term that counts only above a threshold."""

    def __init__(self, term: Term, threshold: float):
        self.term, self.threshold, self.name, self.needs = term, threshold, term.name, term.needs

    def __call__(self, student: Student) -> torch.Tensor:
        value = self.term(student)
        return value if value > self.threshold else value.new_zeros(())


class Fvg(Method):
    """L + consistency · heads + kl_last · KL at the last prompt token + kl_all · Σ of KL over all positions.

    Both are KL(now ‖ before + θ), summed, without T². Raises UserError for a layer the model does not have.
    """

    def terms(self) -> list[Term]:
        stage, settings = self.stage, self.stage.settings
        terms: list[Term] = []
        wanted = [(key, at) for key, at in (("kl_all", "all"), ("kl_last", "last_prompt")) if settings[key]]
        change = self._vector_added() if wanted else None
        before = stage.reference(change, logits=bool(wanted), heads=bool(settings["consistency"]))
        if settings["consistency"]:
            gate = HEAD_GATE if settings["gates"] else 0.0
            terms.append(HeadConsistency(settings["consistency"], stage.selected, before, gate))
        for key, positions in wanted:
            kl = KlSettings(settings[key], positions, temperature=settings["temperature"])
            term = Distillation(key, kl, before)
            terms.append(Gated(term, KL_GATE * settings[key]) if settings["gates"] else term)
        return terms

    def _vector_added(self) -> Change:
        """θ added to the attention's output at the last prompt token of every tree."""
        geometry, layer = self.stage.engine.geometry, self.stage.settings["layer"]
        theta = given(self.stage.theta, "the task's instruction vector")
        if layer is None:
            layer = round(DEPTH * geometry.n_layers)
        if layer >= geometry.n_layers:
            raise UserError(
                f"methods.fvg.layer = {layer}: the model has {geometry.n_layers} layers; give one of 0 to "
                f"{geometry.n_layers - 1}, or null"
            )

        def change(pack: Pack) -> AbstractContextManager:
            rows = [pack.branch_start(t, 0) for t in range(len(pack.trees))]
            return added_to_attention(geometry, layer, theta, rows)

        return change


METHOD = Fvg
