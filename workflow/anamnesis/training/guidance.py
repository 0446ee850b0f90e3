"""Instruction-vector guided training (arXiv 2406.12227, section 4): progressive intervention (eq. 3) and KL
(eq. 4).

The guided, the plain and the teacher's answer of an example share the prompt up to its last token, so they
are branches of one tree: the prompt is run once, with gradient. A teacher that is the model before the stage
needs a forward of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from anamnesis.artifacts import read_parquet, read_tensors
from anamnesis.errors import UserError
from anamnesis.models.heads import find_heads
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.prefix.hooks import added_to_heads
from anamnesis.prefix.pack import Pack
from anamnesis.training.divergence import divergence
from anamnesis.training.examples import Example
from anamnesis.training.objectives import AnswerLoss, Loss, Objective, answer_tokens, branch_rows
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.icl import CLEAN, encode_questions
from anamnesis.vectors.instruction import head_additions, selected_heads


@dataclass(frozen=True)
class KlSettings:
    """The divergence term; see ``guidance.kl`` in the configuration for what each value means."""

    weight: float = 0.05
    teacher: str = "previous"
    positions: str = "all"
    direction: str = "student_teacher"
    temperature: float = 2.0
    temperature_squared: bool = False
    reduction: str = "sum"


def strength(progress: float, schedule: str, plateau: float) -> float:
    """The scale s of eq. 3 at a share of the stage's steps: from 1 to 0.

    ``linear``: 1 − progress (the paper's text names only the end points). ``plateau``: 1 for a share
    ``plateau`` of the steps, then down in steps of 0.1, then 0 for the same share (the authors' trainer).
    """
    if schedule == "linear":
        return 1.0 - progress
    if progress < plateau:
        return 1.0
    if progress > 1 - plateau:
        return 0.0
    return 1.0 - math.ceil(10 / (1 - 2 * plateau) * (progress - plateau) - 1e-9) / 10


class GuidedAnswerLoss:
    """CE of the answers with s·h̄ added to the selected heads at the last prompt token, plus weight · KL.

    ``additions``: {layer: (n_heads, head_dim)}, h̄ of the selected heads (see
    ``vectors.instruction.head_additions``).
    """

    def __init__(
        self,
        additions: Mapping[int, torch.Tensor],
        kl: KlSettings,
        schedule: str = "linear",
        plateau: float = 0.25,
    ):
        self.additions, self.kl, self.schedule, self.plateau = additions, kl, schedule, plateau

    def __call__(self, engine: PrefixEngine, examples: Sequence[Example], progress: float) -> Loss:
        s = strength(progress, self.schedule, self.plateau)
        with_kl = self.kl.weight > 0
        own_teacher = with_kl and self.kl.teacher == "current"
        student = 1 if with_kl and s != 0 else 0  # without intervention the guided answer is the plain one
        pack = Pack(tuple(example.tree(1 + student + own_teacher) for example in examples))
        answers = [row for t in range(len(examples)) for row in branch_rows(pack, t, 0)]
        compared, weight = self._compared(pack, student) if with_kl else ([], None)
        teacher_rows = self._compared(pack, 1 + student)[0] if own_teacher else []
        with self._intervention(engine, pack, s, 1 + student if own_teacher else None):
            logits = engine.run(pack, answers + compared + teacher_rows).float()
        guided, plain, taught = logits.split([len(answers), len(compared), len(teacher_rows)])
        loss = cross_entropy(guided, answer_tokens(examples, engine.device))
        parts = {"answer": loss.item(), "strength": s}
        if with_kl:
            if not own_teacher:
                taught = self._previous(engine, examples)
            term = divergence(
                plain,
                taught,
                weight.to(plain.device),
                self.kl.temperature,
                self.kl.direction == "student_teacher",
            )
            term = term * (self.kl.temperature**2 if self.kl.temperature_squared else 1.0)
            loss, parts["kl"] = loss + self.kl.weight * term, term.item()
        return Loss(loss, parts)

    def _compared(self, pack: Pack, branch: int) -> tuple[list[int], torch.Tensor]:
        """Rows whose predictions are compared, and the weight of each: 1/batch for a sum over positions."""
        rows: list[int] = []
        weights: list[float] = []
        for t, tree in enumerate(pack.trees):
            here = list(branch_rows(pack, t, branch))
            if self.kl.positions == "last_prompt":
                here = here[:1]
            elif self.kl.positions == "all" and self.kl.teacher == "previous":
                here = [*range(pack.starts[t], pack.starts[t] + len(tree.trunk)), *here]
            rows += here
            weights += [1 / len(here) if self.kl.reduction == "mean" else 1.0] * len(here)
        return rows, torch.tensor(weights) / len(pack.trees)

    def _intervention(self, engine: PrefixEngine, pack: Pack, s: float, teacher_branch: int | None):
        """s·h̄ at the first token of each guided branch and, for a teacher in the same pack, h̄ at its own."""
        rows = [pack.branch_start(t, 0) for t in range(len(pack.trees))] if s != 0 else []
        degree = [s] * len(rows)
        if teacher_branch is not None:
            rows += [pack.branch_start(t, teacher_branch) for t in range(len(pack.trees))]
            degree += [1.0] * len(pack.trees)
        if not rows:
            return nullcontext()
        return added_to_heads(engine.geometry, self.additions, torch.tensor(rows), torch.tensor(degree))

    @torch.no_grad()
    def _previous(self, engine: PrefixEngine, examples: Sequence[Example]) -> torch.Tensor:
        """Logits of the model before this stage (adapter off) with h̄ added, at the rows that are compared."""
        pack = Pack(tuple(example.tree() for example in examples))
        with before_this_stage(engine.model), self._intervention(engine, pack, 1.0, None):
            return engine.run(pack, self._compared(pack, 0)[0])


@contextmanager
def before_this_stage(model):
    """The model without the adapter being trained, in evaluation mode."""
    training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        model.train(training)


def build_objective(
    guidance: Mapping | None,
    model,
    tokenizer,
    heads: str | None,
    mean: str | None,
    prompt_table: str | None,
    token_budget: int,
) -> Objective:
    """The plain answer loss, or the guided one when ``guidance`` (the section of the configuration) is given.

    ``heads``: the ranking (parquet); ``mean``: the task's mean head activations of the initial model
    (safetensors);
    ``prompt_table``: its in-context prompts, from which ``vectors_from: current`` takes the activations of
    ``model`` instead. Raises UserError when more heads are asked for than are selected.
    """
    if guidance is None:
        return AnswerLoss()
    geometry = find_heads(model)
    chosen = selected_heads(read_parquet(heads, ["layer", "head", "selected"]), guidance["heads"])
    if len(chosen) < guidance["heads"]:
        raise UserError(
            f"guidance.heads is {guidance['heads']} but only {len(chosen)} heads are selected: lower it or "
            f"raise "
            "vectors.heads"
        )
    if guidance["vectors_from"] == "current":
        table = read_parquet(prompt_table, ["kind", "text", "target"])
        questions = encode_questions(tokenizer, table[table.kind == CLEAN])
        activation = mean_head_activations(PrefixEngine(model, geometry), questions, token_budget).mean
    else:
        activation = read_tensors(mean)["mean"]
    additions = head_additions(geometry, activation, chosen)
    return GuidedAnswerLoss(
        additions, KlSettings(**guidance["kl"]), guidance["schedule"], guidance["plateau"]
    )
