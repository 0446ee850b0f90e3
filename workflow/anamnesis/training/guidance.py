"""Instruction-vector guided training (arXiv 2406.12227, section 4): progressive intervention (eq. 3) and KL
(eq. 4). Both compose with every method: the first changes how the answers are predicted, the second is a
term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from anamnesis.core.artifacts import read_parquet, read_tensors
from anamnesis.core.errors import UserError, given
from anamnesis.data.prompts import generator
from anamnesis.engine.examples import Example
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.hooks import added_to_heads
from anamnesis.engine.pack import Pack
from anamnesis.training.controls import from_several_tasks, random_heads, random_vectors
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
    steps = math.ceil(10 / (1 - 2 * plateau) * (progress - plateau) - 1e-9)  # rounding is no step
    return 1.0 - min(max(steps, 0), 10) / 10


@dataclass(frozen=True)
class Intervention:
    """s·h̄ added to the selected heads at the last prompt token (eq. 3). ``additions``: see
    ``vectors.instruction.head_additions``; ``share``: of a batch's new examples, those it is applied to;
    ``seed``: of the choice among them.
    """

    additions: Additions
    schedule: str = "linear"
    plateau: float = 0.25
    share: float = 1.0
    seed: int = 0

    def strength(self, progress: float) -> float:
        return strength(progress, self.schedule, self.plateau)

    def guided(self, examples: Sequence[Example], progress: float) -> frozenset[int]:
        """The places in a batch of the new examples that are learnt under intervention: ``share`` of them, to
        the nearest number, at least one.

        They follow from the seed and the batch alone, whatever was drawn before and by which process.
        """
        new = [i for i, e in enumerate(examples) if e.new]
        count = max(1, math.floor(self.share * len(new) + 0.5))
        drawn = generator(self.seed, "guided", progress, [examples[i].prompt for i in new])
        return frozenset(drawn.permutation(new)[:count].tolist())


def at_last_prompt_token(geometry: HeadGeometry, additions: Additions, pack: Pack) -> AbstractContextManager:
    """h̄ added, at full strength, at the last prompt token of every tree: the teacher's intervention."""
    rows = torch.tensor([pack.branch_start(t, 0) for t in range(len(pack.trees))])
    return added_to_heads(geometry, additions, rows, torch.ones(len(rows)))


def norm(geometry: HeadGeometry, additions: Additions, scale: torch.Tensor | None = None) -> float:
    """The length, over all heads, of what each adds to the residual stream. ``scale``: of
    ``MeanActivations``.
    """
    written = (geometry.written(layer, added, scale) for layer, added in additions.items())
    return math.sqrt(sum(float(part.square().sum()) for part in written))


def guided_additions(
    stage: Stage,
    settings: Mapping,
    heads: str,
    mean: str,
    prompt_table: str | None = None,
    task_means: Sequence[str] = (),
) -> Additions:
    """h̄ of the heads that guide a stage, as the section ``guidance`` of the configuration asks for.

    ``heads``: the ranking (parquet); ``mean``: the task's mean head activations of the initial model
    (safetensors); ``prompt_table``: its in-context prompts, from which ``vectors_from: current`` takes the
    activations of the model at hand instead; ``task_means``: as ``mean``, of the tasks that
    ``guidance_settings.control_tasks`` names. Controls (``training.controls``): random heads are drawn once
    for a chain, random vectors once for each of its tasks. Raises UserError when more heads are asked for
    than there are.
    """
    geometry, table = stage.engine.geometry, read_parquet(heads, ["layer", "head", "selected"])
    chosen, control = selected_heads(table, settings["heads"]), settings["control"]
    if len(chosen) < settings["heads"]:
        raise UserError(
            f"guidance.heads is {settings['heads']} but only {len(chosen)} heads are selected: lower it or "
            "raise vectors.heads"
        )
    current = settings["vectors_from"] == "current"
    activation, scale = _of_model_at_hand(stage, prompt_table) if current else _stored(mean)
    if control == "random_heads":
        chosen = random_heads(table, len(chosen), torch.Generator().manual_seed(stage.chain_seed))
    elif control == "random_vectors":
        seed = int(generator(stage.chain_seed, stage.task, control).integers(2**31))
        drawn = torch.Generator().manual_seed(seed)
        activation = random_vectors(geometry, activation, chosen, drawn, scale)
    elif control != "none":
        means = [read_tensors(file)["mean"] for file in task_means]
        activation = from_several_tasks(control, activation, means)
    return head_additions(geometry, activation, chosen)


def _stored(mean: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``mean`` and ``scale`` of ``MeanActivations``."""
    tensors = read_tensors(mean)
    return tensors["mean"], tensors.get("scale")


def _of_model_at_hand(stage: Stage, prompt_table: str | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    prompts = read_parquet(
        given(prompt_table, "a table of prompts"), ["kind", "text", "before_answer", "target"]
    )
    questions = encode_questions(stage.tokenizer, prompts[prompts.kind == CLEAN])
    found = mean_head_activations(stage.engine, questions, stage.batch_tokens)
    return found.mean, found.scale
