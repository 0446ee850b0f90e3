"""A divergence from the model before all training, and anchored supervised fine-tuning (ASFT, Zhu et al.,
arXiv 2509.23753).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from anamnesis.core.errors import given
from anamnesis.models.loading import read_weights
from anamnesis.training.distillation import Distillation, KlSettings
from anamnesis.training.method import Method
from anamnesis.training.objectives import Objective, Term
from anamnesis.training.reference import Start
from anamnesis.training.stage import Stage

if TYPE_CHECKING:
    from anamnesis.training.guidance import Intervention


class KlBase(Method):
    """L + λ · KL(before training ‖ now) on the new task's inputs: mean over the positions of an example, and
    over examples.

    L is the mean over answer tokens y_t of −log p(y_t) or, with ``token_weights`` (ASFT), of
    −sg[p(y_t)] · log p(y_t), where sg stops the gradient: tokens that the model finds unlikely count less.
    """

    def terms(self) -> Sequence[Term]:
        settings = self.stage.settings
        if not settings["weight"]:
            return ()
        compared = {key: settings[key] for key in ("weight", "positions", "direction", "temperature")}
        before = self.stage.reference(start=untrained(self.stage))
        return [Distillation("base", KlSettings(**compared, reduction="mean"), before)]

    def objective(self, terms: Sequence[Term], intervention: Intervention | None) -> Objective:
        kind = TokenWeighted if self.stage.settings["token_weights"] else Objective
        return kind(terms, intervention)


class TokenWeighted(Objective):
    """Every answer token's loss counts as much as the model's own probability of the token."""

    def answer_loss(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        losses = cross_entropy(logits, tokens, reduction="none")
        return (losses.detach().neg().exp() * losses).mean()


def untrained(stage: Stage) -> Start:
    """The weights of the model before all training: the snapshot's where earlier adapters were merged, and
    an adapter that adds nothing.
    """
    with torch.random.fork_rng(devices=[]):  # reading may draw random numbers, which training counts on
        snapshot = read_weights(
            given(stage.snapshot, "the folder of the model"), dtype="auto", use_safetensors=True
        )
    original, values = dict(snapshot.named_parameters()), {}
    for name, weight in stage.engine.model.named_parameters():
        if ".lora_B." in name:
            values[name] = torch.zeros_like(weight)
        elif ".base_layer." in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            values[name] = original[plain].detach().to(weight)
    return Start(stage.engine.model, values)


METHOD = KlBase
