"""A stage trained once more and measured on the way: which heads gain effect, which lose it, and when.

Measuring changes nothing of the training: it draws no random number and leaves weights, gradients and modes
alone, so that the stage ends with the weights it has ended with before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from transformers import TrainerCallback

from anamnesis.analyses.outputs import scored_outputs
from anamnesis.analyses.questions import set_questions
from anamnesis.analyses.within_stage.tables import Look
from anamnesis.core.errors import UserError
from anamnesis.core.progress import progress
from anamnesis.data.prompts import Template
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.models.adapters import save_adapter
from anamnesis.training.loop import trainer_of
from anamnesis.training.method import Method
from anamnesis.training.objectives import Objective
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import CLEAN, encode_questions, shuffled_prompts

NEVER = 10**9  # steps until a checkpoint
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Asked:
    """The questions of one set: intact in-context prompts and label-shuffled ones, as many of each, and test
    examples zero-shot and few-shot.
    """

    clean: Sequence[Question]
    shuffled: Sequence[Question]
    zero_shot: Sequence[Question]
    few_shot: Sequence[Question]


def asked(
    tokenizer, task: pd.DataFrame, name: str, prompts: pd.DataFrame, template: Template, shots: int,
    prompt_count: int, examples: int, seed: int,
) -> Asked:  # fmt: skip
    """At most ``prompt_count`` in-context ``prompts`` of either kind and ``examples`` test examples, the
    first ones, with the prompts of the evaluation (``shots``, ``seed``).

    Raises UserError where fewer than two prompts are shuffled: one half of them chooses heads for the other.
    """
    clean, shuffled = (
        encode_questions(tokenizer, part.head(prompt_count))
        for part in (prompts[prompts.kind == CLEAN], shuffled_prompts(prompts, name))
    )
    if len(shuffled) < 2:
        raise UserError(
            f"effect maps within a stage need two label-shuffled prompts or more, and {name} has "
            f"{len(shuffled)}: raise analyses.effect_prompts or vectors.effect_prompts, or set "
            "analyses.within_stage.points to 0"
        )
    questions = set_questions(tokenizer, task, name, template, shots, examples, seed)
    return Asked(clean, shuffled, questions.zero_shot, questions.few_shot)


@measuring
def look(
    engine: PrefixEngine, sets: Mapping[str, Asked], step: int, target: str, rank_by: str, batch_tokens: int
) -> Look:
    """All measures of the model as it is now. ``target``, ``rank_by``: of the configuration's ``vectors``."""
    shape = (-1, engine.geometry.n_layers, engine.geometry.n_heads)
    column = {"probability": "effect", "log_probability": "log_effect"}[rank_by]
    effects, norms, right = {}, {}, {}
    for name, questions in sets.items():
        mean = mean_head_activations(engine, questions.clean, batch_tokens).mean
        ids = [f"{i:06d}" for i in range(len(questions.shuffled))]
        frame = causal_effects(engine, questions.shuffled, ids, mean, batch_tokens, target)
        effects[name] = frame[column].to_numpy().reshape(shape)
        outputs, few, _ = scored_outputs(engine, questions.few_shot, batch_tokens)
        _, zero, _ = scored_outputs(engine, questions.zero_shot, batch_tokens)
        norms[name] = outputs.norm(dim=-1).double().numpy()
        right[name] = {
            "zero-shot": [score.greedy[0] for score in zero],
            "few-shot": [score.greedy[0] for score in few],
        }
    return Look(step, effects, norms, right)


class Looking(TrainerCallback):
    """Calls ``measure(step)`` before the first step and after ``points`` more, evenly spaced, the last one
    among them.
    """

    def __init__(self, points: int, measure: Callable[[int], None]):
        self.points, self.measure = points, measure
        self.due: set[int] = set()

    def on_train_begin(self, args, state, control, **kwargs):
        self.due = {round(state.max_steps * k / self.points) for k in range(1, self.points + 1)}
        self.measure(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.due:
            self.measure(state.global_step)


def watched(
    method: Method,
    objective: Objective,
    sets: Mapping[str, Asked],
    points: int,
    target: str,
    rank_by: str,
    batch_tokens: int,
) -> list[Look]:
    """Train the stage of ``method`` as ``training.loop.train_stage`` does, but for checkpoints to go on from,
    and look at the model on the way (:class:`Looking`, :func:`look`).
    """
    stage, looks = method.stage, []
    settings = {**stage.training, "checkpoint_steps": NEVER}
    with (
        tempfile.TemporaryDirectory() as folder,
        progress(points + 1, f"within stage {stage.number}") as done,
    ):

        def measure(step: int) -> None:
            looks.append(look(stage.engine, sets, step, target, rank_by, batch_tokens))
            done(1)

        trainer = trainer_of(stage.engine, method.batches(), objective, settings, stage.seed, Path(folder))
        trainer.add_callback(Looking(points, measure))
        objective.world.broadcast_from_rank0([p for p in stage.engine.model.parameters() if p.requires_grad])
        trainer.train()
    return looks


def difference(model, stored: str | Path) -> float:
    """The largest absolute difference between the weights of the model's adapter and of the one in the folder
    ``stored``; 0 where they are the same bit for bit. Raises UserError where they are not comparable.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder), "", [])
        here = load_file(Path(folder) / WEIGHTS)
    there = load_file(Path(stored) / WEIGHTS)
    if {n: t.shape for n, t in here.items()} != {n: t.shape for n, t in there.items()}:
        raise UserError(f"{stored} holds other weights than this stage trains: train the stage again")
    return max(float((here[name].double() - there[name].double()).abs().max()) for name in here)
