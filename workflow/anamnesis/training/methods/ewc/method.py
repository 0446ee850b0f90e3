"""Elastic weight consolidation (Kirkpatrick et al., arXiv 1612.00796): weights that mattered to earlier tasks
are held where they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from anamnesis.core.artifacts import read_tensors
from anamnesis.engine.examples import Example
from anamnesis.engine.modes import evaluation_mode
from anamnesis.training.method import Method
from anamnesis.training.objectives import answer_tokens
from anamnesis.training.stage import Stage
from anamnesis.training.student import PassNeeds, Student, run_student

Tensors = dict[str, torch.Tensor]  # by the name of a trainable parameter


class Ewc(Method):
    """λ/2 · Σ F (θ − θ*)², from the second stage on, with one adapter for all stages.

    θ*: the weights at the end of a stage; F: see :func:`fisher`. ``merge`` makes one penalty of several
    tasks: "mean" (F: half the old, half the new) and "online" (F: decay · old + new; Schwarz et al., arXiv
    1805.06370) hold θ at the newest θ*. "sum" is a penalty for each task, each with its own θ*: such a sum is
    again one parabola in each weight, so only its curvature, its lowest point and its height there are kept.
    """

    def __init__(self, stage: Stage):
        super().__init__(stage)
        self.before: Tensors = {}
        if stage.earlier:
            state = read_tensors(stage.earlier[-1] / "state.safetensors")
            self.before = {key: value.to(stage.engine.device) for key, value in state.items()}

    def terms(self) -> list[Penalty]:
        if not self.before:
            return []
        return [Penalty(self.stage.trainable, self.before, self.stage.settings["strength"])]

    def finish(self) -> Tensors:
        """``fisher.<weight>`` and ``centre.<weight>``, shaped as the weight, and the scalar ``rest``: the
        penalty is Σ fisher (θ − centre)² + rest, times λ/2.
        """
        settings, examples = self.stage.settings, self.stage.examples
        count = min(settings["fisher_examples"], len(examples))
        drawn = self.stage.random("fisher").choice(len(examples), count, replace=False)
        new = fisher(self.stage, [examples[i] for i in drawn])
        weights = {name: p.detach().clone() for name, p in self.stage.trainable.items()}
        old_weight, new_weight = {"sum": (1.0, 1.0), "mean": (0.5, 0.5), "online": (settings["decay"], 1.0)}[
            settings["merge"]
        ]
        if not self.before:
            old_weight, new_weight = 0.0, 1.0
        state = {"rest": self.before.get("rest", torch.zeros((), device=self.stage.engine.device))}
        for name, value in new.items():
            old = old_weight * self.before.get(f"fisher.{name}", torch.zeros_like(value))
            total, centre = old + new_weight * value, weights[name]
            if self.before and settings["merge"] == "sum":
                centre = self.before[f"centre.{name}"]
                pull = torch.where(total > 0, value / total, 1.0)  # the share of the new task's parabola
                state["rest"] = state["rest"] + (old * pull * (weights[name] - centre) ** 2).sum()
                centre = centre + pull * (weights[name] - centre)
            state |= {f"fisher.{name}": total, f"centre.{name}": centre}
        return state


class Penalty:
    """strength/2 · (Σ fisher (θ − centre)² + rest) over the trainable weights θ."""

    name, needs = "ewc", PassNeeds()

    def __init__(self, weights: dict[str, torch.nn.Parameter], state: Tensors, strength: float):
        self.weights, self.state, self.strength = weights, state, strength

    def __call__(self, student: Student | None = None) -> torch.Tensor:
        total = self.state["rest"]
        for name, weight in self.weights.items():
            distance = weight - self.state[f"centre.{name}"]
            total = total + (self.state[f"fisher.{name}"] * distance**2).sum()
        return self.strength / 2 * total


def fisher(stage: Stage, examples: Sequence[Example]) -> Tensors:
    """The diagonal of the empirical Fisher information: the mean over examples of (∂ log P(y|c,x) / ∂θ)².

    log P(y|c,x) is the sum over the answer's tokens, which is the log-likelihood of one observation; the
    gradient is squared for each example alone, and the model runs without dropout.
    """
    engine, weights = stage.engine, stage.trainable
    information = {name: torch.zeros_like(p) for name, p in weights.items()}
    with evaluation_mode(engine.model):
        for example in examples:
            answers = run_student(engine, [example], 1.0, PassNeeds()).answers
            surprise = cross_entropy(answers, answer_tokens([example], engine.device), reduction="sum")
            slopes = torch.autograd.grad(surprise, list(weights.values()))
            for total, slope in zip(information.values(), slopes, strict=True):
                total += slope**2 / len(examples)
    return information


METHOD = Ewc
