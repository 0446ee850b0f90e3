"""All measures of one checkpoint on one set, for a model that is loaded once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from anamnesis.analyses.checkpoints.alignment import alignment
from anamnesis.analyses.checkpoints.conditions import (
    before_training,
    head_outputs,
    layer_sweep,
    stage_conditions,
)
from anamnesis.analyses.checkpoints.vector_drift import (
    Heads,
    head_vectors,
    random_head_sets,
    summed,
    vector_drift,
)
from anamnesis.analyses.questions import SetQuestions, set_questions
from anamnesis.core.progress import progress
from anamnesis.data.prompts import Template, generator
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.stats.layers import best_layer
from anamnesis.vectors.activations import MeanActivations, mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import CLEAN, encode_questions, shuffled_prompts


@dataclass(frozen=True)
class Plan:
    """What is measured, for all sets alike. ``heads``: the set S; ``layers`` after which vectors are added:
    all of them before training, to choose one, and where ``every_layer`` says so; ``random_sets``: how many;
    ``effect_prompts``: label-shuffled prompts per set; ``target``: of eq. 2.
    """

    heads: Heads
    layers: Sequence[int]
    every_layer: bool
    random_sets: int
    effect_prompts: int
    target: str
    seed: int
    batch_tokens: int


@dataclass(frozen=True)
class Initial:
    """What later stages need of the model before training, for one set: ``vectors`` (n_layers, n_heads,
    hidden_size), what its heads write on average; ``outputs`` (n_questions, len(S), head_dim), those of S on
    the few-shot questions; ``layer``, after which adding θ helps most on validation questions.
    """

    vectors: torch.Tensor
    outputs: torch.Tensor
    layer: torch.Tensor  # a whole number, as it is kept among tensors


@dataclass(frozen=True)
class SetTrace:
    """The measures of one set as frames (see ``checkpoints.tables``), the initial model's part, and the means
    behind the vector.
    """

    alignment: pd.DataFrame
    drift: pd.DataFrame
    conditions: pd.DataFrame
    effects: pd.DataFrame
    initial: Initial
    activations: MeanActivations


@measuring
def trace_set(
    engine: PrefixEngine,
    tokenizer,
    name: str,
    questions: SetQuestions,
    prompts: pd.DataFrame,
    plan: Plan,
    initial: Initial | None = None,
) -> SetTrace:
    """Everything about one set in the model of ``engine``. ``prompts``: the set's in-context prompts
    (``vectors.icl.build_prompts``). Without ``initial`` the model is itself the one before training.

    Raises UserError for a head or layer that the model does not have.
    """
    clean = prompts[prompts.kind == CLEAN]
    shuffled = shuffled_prompts(prompts, name).iloc[: plan.effect_prompts]
    budget, rng = plan.batch_tokens, generator(plan.seed, name, "trace")
    sets = random_head_sets(engine.geometry, plan.heads, plan.random_sets, rng)
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    activations = mean_head_activations(engine, encode_questions(tokenizer, clean), budget)
    now = head_vectors(engine.geometry, activations.mean, activations.scale)
    first, conditions = (initial, []) if initial else _initial(engine, questions, now, plan, noise)
    vectors = {"initial": summed(first.vectors, plan.heads)}
    if initial:
        vectors["current"] = summed(now, plan.heads)
    layers = plan.layers if plan.every_layer else [int(first.layer)]
    conditions.append(
        stage_conditions(engine, questions, vectors, first.outputs, plan.heads, layers, noise, budget)
    )
    asked, ids = encode_questions(tokenizer, shuffled), list(shuffled.prompt_id)
    return SetTrace(
        alignment(engine, questions.zero_shot, vectors, budget),
        vector_drift(first.vectors, now, plan.heads, sets),
        pd.concat(conditions, ignore_index=True),
        causal_effects(engine, asked, ids, activations.mean, budget, plan.target),
        first,
        activations,
    )


def _initial(
    engine: PrefixEngine, questions: SetQuestions, vectors: torch.Tensor, plan: Plan, noise: torch.Generator
) -> tuple[Initial, list[pd.DataFrame]]:
    """What is kept of the model before training, and the conditions that only it is measured under."""
    theta, budget = summed(vectors, plan.heads), plan.batch_tokens
    swept = layer_sweep(engine, questions.chosen_on, theta, plan.layers, budget)
    layer = best_layer(swept)
    alone = before_training(engine, questions, theta, layer, noise, budget)
    outputs = head_outputs(engine, questions.few_shot, plan.heads, budget)
    return Initial(vectors, outputs, torch.tensor(layer)), [swept, alone]


KEPT = ("vectors", "outputs", "layer")


def kept_tensors(traces: Mapping[str, SetTrace]) -> dict[str, torch.Tensor]:
    """The ``Initial`` of every set as named tensors; :func:`kept_initial` reads one back."""
    return {f"{name}.{part}": getattr(t.initial, part) for name, t in traces.items() for part in KEPT}


def kept_initial(tensors: Mapping[str, torch.Tensor], name: str) -> Initial | None:
    """The ``Initial`` of a set, or None of no tensors at all."""
    return Initial(**{part: tensors[f"{name}.{part}"] for part in KEPT}) if tensors else None


def trace_sets(
    engine: PrefixEngine,
    tokenizer,
    sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    plan: Plan,
    template: Template,
    shots: int,
    examples: int,
    kept: Mapping[str, torch.Tensor],
) -> dict[str, SetTrace]:
    """The traces of all ``sets`` (name -> task and in-context prompts), on at most ``examples`` test examples
    each. ``kept``: tensors of the model before training; empty for that model itself.
    """
    traces = {}
    with progress(len(sets), "trace") as done:
        for name, (task, prompts) in sets.items():
            asked = set_questions(tokenizer, task, name, template, shots, examples, plan.seed)
            first = kept_initial(kept, name)
            traces[name] = trace_set(engine, tokenizer, name, asked, prompts, plan, first)
            done(1)
    return traces
