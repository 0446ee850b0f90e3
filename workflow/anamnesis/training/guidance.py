"""Instruction-vector guided training (arXiv 2406.12227, section 4): progressive intervention (eq. 3) and KL
(eq. 4). Both compose with every method: the first changes how the answers are predicted, the second is a
term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from anamnesis.artifacts import read_parquet, read_tensors
from anamnesis.errors import UserError
from anamnesis.models.heads import HeadGeometry
from anamnesis.prefix.hooks import added_to_heads
from anamnesis.prefix.pack import Pack
from anamnesis.training.stage import Stage
from anamnesis.training.student import Additions
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.icl import CLEAN, encode_questions
from anamnesis.vectors.instruction import head_additions, selected_heads


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


@dataclass(frozen=True)
class Intervention:
    """s·h̄ added to the selected heads at the last prompt token (eq. 3). ``additions``: see
    ``vectors.instruction.head_additions``.
    """

    additions: Additions
    schedule: str = "linear"
    plateau: float = 0.25

    def strength(self, progress: float) -> float:
        return strength(progress, self.schedule, self.plateau)


def at_last_prompt_token(geometry: HeadGeometry, additions: Additions, pack: Pack) -> AbstractContextManager:
    """h̄ added, at full strength, at the last prompt token of every tree: the teacher's intervention."""
    rows = torch.tensor([pack.branch_start(t, 0) for t in range(len(pack.trees))])
    return added_to_heads(geometry, additions, rows, torch.ones(len(rows)))


def norm(additions: Additions) -> float:
    """The length of h̄ over all heads: what differs between the selected heads and random ones."""
    return math.sqrt(sum(float(added.float().square().sum()) for added in additions.values()))


def guided_additions(
    stage: Stage, settings: Mapping, heads: str, mean: str, prompt_table: str | None = None
) -> Additions:
    """h̄ of the heads that guide a stage, as the section ``guidance`` of the configuration asks for.

    ``heads``: the ranking (parquet); ``mean``: the task's mean head activations of the initial model
    (safetensors); ``prompt_table``: its in-context prompts, from which ``vectors_from: current`` takes the
    activations of the model at hand instead. Controls, drawn once for a chain: ``random_heads`` takes
    other heads than the selected ones; ``random_vectors`` takes random vectors of each head's norm. Raises
    UserError when more heads are asked for than there are.
    """
    geometry, table = stage.engine.geometry, read_parquet(heads, ["layer", "head", "selected"])
    chosen = selected_heads(table, settings["heads"])
    if len(chosen) < settings["heads"]:
        raise UserError(
            f"guidance.heads is {settings['heads']} but only {len(chosen)} heads are selected: lower it or "
            "raise vectors.heads"
        )
    if settings["vectors_from"] == "current":
        prompts = read_parquet(prompt_table, ["kind", "text", "lead", "target"])
        questions = encode_questions(stage.tokenizer, prompts[prompts.kind == CLEAN])
        activation = mean_head_activations(stage.engine, questions, stage.token_budget).mean
    else:
        activation = read_tensors(mean)["mean"]
    generator = torch.Generator().manual_seed(stage.chain_seed)
    if settings["control"] == "random_heads":
        rest = table[~table.selected].sort_values(["layer", "head"])
        if len(rest) < len(chosen):
            raise UserError(
                f"guidance.control is random_heads, but only {len(rest)} heads of the model are not selected "
                f"and {len(chosen)} are needed: lower vectors.heads and guidance.heads"
            )
        drawn = torch.randperm(len(rest), generator=generator)[: len(chosen)].tolist()
        chosen = [(int(rest.layer.iloc[i]), int(rest["head"].iloc[i])) for i in drawn]
    elif settings["control"] == "random_vectors":
        noise = torch.randn(activation.shape, generator=generator)
        activation = noise / noise.norm(dim=-1, keepdim=True) * activation.norm(dim=-1, keepdim=True)
    return head_additions(geometry, activation, chosen)
