"""How much an instruction vector depends on the prompts it is made from: sums of head outputs against vectors
found by gradient descent, from the same examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from anamnesis.analyses.outputs import scored_outputs
from anamnesis.analyses.questions import set_questions
from anamnesis.analyses.robustness.tables import ALONE, BOTH, COLUMNS, HEADS, NONE, OPTIMISED
from anamnesis.core.artifacts import read_parquet, read_tensors, write_parquet
from anamnesis.core.errors import UserError
from anamnesis.core.progress import progress
from anamnesis.data.chat import template_for
from anamnesis.data.prompts import Template, generator
from anamnesis.data.shortening import shorten_inputs
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.loading import load_model
from anamnesis.vectors.activations import ENOUGH, is_correct
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.instruction import instruction_vector, selected_heads
from anamnesis.vectors.interventions import intervene
from anamnesis.vectors.optimised import Optimisation, optimised_vector, zero_shot_examples


@dataclass(frozen=True)
class Plan:
    """``sizes``: numbers of prompts; ``draws`` of each, of which no two have a prompt in common;
    ``selected``: the head set S; ``optimisation``, ``norm``: of the optimised vectors, the latter in norms of
    the heads' vector from the same prompts; ``shots``, ``include_instruction``: of the in-context prompts;
    ``examples``: test examples, asked as the evaluation does.
    """

    sizes: Sequence[int]
    draws: int
    selected: Sequence[tuple[int, int]]
    optimisation: Optimisation
    norm: float
    shots: int
    include_instruction: bool
    examples: int
    seed: int
    batch_tokens: int


def measure(
    snapshot: str,
    task: str,
    heads: str,
    initial: str,
    name: str,
    model: Mapping[str, Any],
    robustness: Mapping[str, Any],
    optimised: Mapping[str, Any],
    asking: Mapping[str, Any],
    prompts: Mapping[str, str],
    max_input_tokens: int,
    seed: int,
    batch_tokens: int,
    table: str,
) -> dict:
    """Write the ``table`` of one set. ``initial``: of the model before training, which knows the layer for
    the set; ``asking``: ``shots`` and ``include_instruction`` of in-context prompts, and ``examples``.
    """
    language_model, tokenizer = load_model(snapshot, **model)
    template, layer = template_for(prompts, tokenizer), int(read_tensors(initial)[f"{name}.layer"])
    rows, cut = shorten_inputs(read_parquet(task), tokenizer, template, max_input_tokens)
    steps = Optimisation(layer, robustness["steps"], optimised["batch_size"], optimised["learning_rate"])
    selected = selected_heads(read_parquet(heads, ["layer", "head", "selected"]))
    plan = Plan(
        robustness["prompts"], robustness["draws"], selected, steps, optimised["norm"], **asking, seed=seed,
        batch_tokens=batch_tokens,
    )  # fmt: skip
    drawn = draws_of(rows, name, plan)
    with progress(len(drawn), f"robustness {name}") as done:
        measured = vectors_of_draws(PrefixEngine(language_model), tokenizer, rows, name, template, plan, done)
    write_parquet(table, measured)
    return {"layer": layer, "draws": len(drawn), "inputs_cut": int(cut.sum())}


def vectors_of_draws(
    engine: PrefixEngine,
    tokenizer,
    task: pd.DataFrame,
    name: str,
    template: Template,
    plan: Plan,
    done: Callable[[int], None] = lambda count: None,
) -> pd.DataFrame:
    """The table ``robustness.tables.COLUMNS`` of one set.

    Every draw of n of the task's training and validation examples gives two vectors: the heads' from
    in-context prompts that ask about the examples, the optimised one from the same examples zero-shot.
    ``done`` is told of every draw.
    """
    drawn = draws_of(task, name, plan)
    pool = task.loc[sorted({index for _, _, indices in drawn for index in indices})]
    outputs, right, scales = _answered_prompts(engine, tokenizer, task, pool, name, template, plan)
    place = {index: k for k, index in enumerate(pool.index)}
    found: dict[tuple[str, int, int], torch.Tensor] = {}
    for size, draw, indices in drawn:
        at = [place[index] for index in indices]
        scale = None if scales is None else averaged(scales[at], right[at])
        theta = instruction_vector(engine.geometry, averaged(outputs[at], right[at]), plan.selected, scale)
        rng = generator(plan.seed, name, "optimised", str(size), str(draw))
        rows = pool.loc[indices].assign(split="train")
        examples = zero_shot_examples(rows, tokenizer, template, size, rng)
        limits = plan.norm * float(theta.norm()), rng, plan.batch_tokens
        optimised = optimised_vector(engine, examples, plan.optimisation, *limits)
        found |= {(HEADS, size, draw): theta, (OPTIMISED, size, draw): optimised.theta}
        done(1)
    asked = set_questions(tokenizer, task, name, template, 0, plan.examples, plan.seed).zero_shot
    measured = [*_accuracies(engine, asked, found, plan), *_cosines(found)]
    table = pd.DataFrame(measured, columns=[c for c in COLUMNS if c not in ("set", "layer")])
    return table.assign(set=name, layer=plan.optimisation.layer)[COLUMNS]


def draws_of(task: pd.DataFrame, name: str, plan: Plan) -> list[tuple[int, int, list]]:
    """(size, number, index labels of ``task``) of every draw. Sizes of which there are too few examples for
    two draws are left out, and of the others no more draws are made than there are examples for.

    Raises UserError where no size is left.
    """
    rows = task[task.split.isin(["train", "validation"])]
    drawn = []
    for size in plan.sizes:
        order = generator(plan.seed, name, "robustness", str(size)).permutation(len(rows))
        count = min(plan.draws, len(rows) // size)
        for draw in range(count if count > 1 else 0):
            drawn.append((size, draw, list(rows.index[order[draw * size : (draw + 1) * size]])))
    if not drawn:
        raise UserError(
            f"analyses.robustness.prompts = {list(plan.sizes)}: {name} has {len(rows)} training and "
            "validation examples, too few for two draws of any of these numbers; give a smaller one, or an "
            "empty list"
        )
    return drawn


def _answered_prompts(engine, tokenizer, task, pool, name: str, template: Template, plan: Plan):
    """(outputs of all heads, whether answered rightly, scales) on one in-context prompt for each row of
    ``pool``; see ``analyses.outputs.scored_outputs``.
    """
    asked = pd.concat([task[task.split == "train"], pool.assign(split="validation")])
    kinds = PromptPlan(plan.shots, len(pool), 0, plan.include_instruction)
    prompts = build_prompts(asked, name, kinds, template, plan.seed).set_index("query_id")
    questions = encode_questions(tokenizer, prompts.loc[pool.example_id])
    outputs, scores, scales = scored_outputs(engine, questions, plan.batch_tokens)
    return outputs, torch.tensor([is_correct(score) for score in scores]), scales


def averaged(outputs: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Mean over the prompts that were answered rightly, or over all where these are few, as
    ``vectors.activations.mean_head_activations`` takes it. ``outputs``: (n_prompts, ...); ``right``:
    (n_prompts,).
    """
    enough = int(right.sum()) >= min(ENOUGH, len(right))
    return (outputs[right] if enough else outputs).double().mean(0).float()


def _accuracies(engine: PrefixEngine, asked, found, plan: Plan) -> list[tuple]:
    vectors = torch.stack(list(found.values())).expand(len(asked), -1, -1)
    changed, clean = intervene(engine, asked, vectors, [plan.optimisation.layer], plan.batch_tokens)
    shares = changed[:, 0].double().mean(-1)
    rows = [(0, NONE, "accuracy", ALONE, ALONE, float(clean.double().mean()), len(asked))]
    return rows + [
        (size, extractor, "accuracy", draw, ALONE, float(share), len(asked))
        for (extractor, size, draw), share in zip(found, shares, strict=True)
    ]


def _cosines(found) -> list[tuple]:
    """Of every two draws of one size and extractor, and of the two vectors of a draw."""
    rows = []
    for (kind, size, draw), (other_kind, other_size, other) in combinations(found, 2):
        same_draw = draw == other and kind != other_kind
        if size != other_size or not (kind == other_kind or same_draw):
            continue
        pair = (found[kind, size, draw], found[other_kind, other_size, other])
        extractor = BOTH if same_draw else kind
        rows.append((size, extractor, "cosine", draw, other, float(cosine_similarity(*pair, dim=0)), 1))
    return rows
