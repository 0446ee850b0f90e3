"""Orthogonal low-rank adaptation (Wang et al., arXiv 2310.14152): each stage's adapter reads from directions
that the earlier ones do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from anamnesis.core.artifacts import read_tensors
from anamnesis.training.method import Method
from anamnesis.training.stage import per_stage
from anamnesis.training.student import PassNeeds, Student

Weights = Mapping[str, torch.nn.Parameter]


class Olora(Method):
    """λ₁ · Σ over adapted modules of Σ|A_prev A_newᵀ| + λ₂ · Σ over new tensors of ‖·‖₂.

    A_prev (earlier ranks together × inputs) stacks the ``lora_A`` of all earlier adapters, which stay as they
    are; the new tensors are those of both factors. Absolute values of the entries are summed, as in the
    authors' code. The first stage has no overlap.
    """

    def terms(self) -> list[Overlap | Norm]:
        stage = self.stage
        overlap, norm = (per_stage(stage.settings[key], stage.number) for key in ("lambda1", "lambda2"))
        terms: list[Overlap | Norm] = []
        if overlap and stage.earlier:
            adapters = [read_tensors(folder / "adapter_model.safetensors") for folder in stage.earlier]
            terms.append(Overlap(overlap, stage.trainable, adapters))
        if norm:
            terms.append(Norm(norm, stage.trainable))
        return terms


class Overlap:
    """weight · Σ|A_prev A_newᵀ|. ``adapters``: tensors of the earlier ones, named as PEFT saves them."""

    name, needs = "overlap", PassNeeds()

    def __init__(self, weight: float, weights: Weights, adapters: Sequence[Mapping[str, torch.Tensor]]):
        self.weight = weight
        self.pairs = [
            (torch.cat([tensors[_saved(name)] for tensors in adapters]).to(new), new)
            for name, new in weights.items()
            if ".lora_A." in name
        ]

    def __call__(self, student: Student | None = None) -> torch.Tensor:
        return self.weight * torch.stack([(old @ new.T).abs().sum() for old, new in self.pairs]).sum()


class Norm:
    """weight · Σ‖·‖₂ over the adapter's tensors; it has gradient zero where a tensor is zero."""

    name, needs = "norm", PassNeeds()

    def __init__(self, weight: float, weights: Weights):
        self.weight = weight
        self.tensors = [tensor for name, tensor in weights.items() if ".lora_" in name]

    def __call__(self, student: Student | None = None) -> torch.Tensor:
        return self.weight * torch.stack([torch.linalg.vector_norm(t) for t in self.tensors]).sum()


def _saved(name: str) -> str:
    """The name under which PEFT saves a parameter of its adapter "default"."""
    return name.replace(".default.", ".")


METHOD = Olora
