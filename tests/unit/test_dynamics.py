"""What is traced in a checkpoint, against one plain forward pass per prompt, layer and condition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import reference
from anamnesis.analyses.checkpoints.alignment import alignment
from anamnesis.analyses.checkpoints.conditions import (
    answered,
    before_training,
    head_outputs,
    layer_sweep,
    stage_conditions,
)
from anamnesis.analyses.checkpoints.measure import Plan, trace_set
from anamnesis.analyses.checkpoints.vector_drift import head_vectors, random_head_sets, summed, vector_drift
from anamnesis.analyses.questions import SetQuestions, set_questions
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.evaluation.items import build_items
from anamnesis.vectors.icl import PromptPlan, build_prompts
from anamnesis.vectors.instruction import instruction_vector
from tiny_models import build, shared, token_ids, tokenizer

BEGINNING = token_ids(1, 14)[0]  # run once for all prompts
PROMPTS = [[*BEGINNING, *own] for own in token_ids(2, 9, 4, 12, 1, 7, 6)]
HEADS = [(2, 1), (0, 3), (2, 0), (1, 2)]
BUDGET = 60  # several batches
NAMES = ["llama", "qwen3", "gemma3", "gpt2"]


def theta(model, seed: int = 5) -> torch.Tensor:
    hidden = find_heads(model).hidden_size
    return 4 * torch.randn(hidden, generator=torch.Generator().manual_seed(seed))


def residuals(model, prompt) -> torch.Tensor:
    """(layers, hidden_size): the residual stream after each layer at the last token."""
    seen: list[torch.Tensor] = []

    def hook(module, args, output):
        seen.append((output[0] if isinstance(output, tuple) else output)[0, -1])

    handles = [block.register_forward_hook(hook) for block in reference.blocks(model)]
    with torch.no_grad():
        reference.logits(model, prompt)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


@pytest.mark.parametrize("name", NAMES)
def test_alignment_is_the_cosine_at_the_last_token_of_every_layer(name):
    model = shared(name)
    vectors = {"one": theta(model), "other": theta(model, 6)}
    found = alignment(PrefixEngine(model), [Question(p, [[1]]) for p in PROMPTS], vectors, BUDGET)
    states = torch.stack([residuals(model, prompt) for prompt in PROMPTS])  # (prompts, layers, hidden)
    for vector, part in found.groupby("vector", sort=False):
        cosine = torch.cosine_similarity(states, vectors[vector].expand_as(states), -1)
        assert np.allclose(part.cosine, cosine.mean(0), atol=1e-5)
        assert np.allclose(part.sd, cosine.std(0), atol=1e-5)
        assert list(part.layer) == list(range(len(part)))
    assert set(found.n) == {len(PROMPTS)}
    assert reference.hook_count(model) == 0


def test_head_vectors_add_up_to_the_instruction_vector():
    for name in NAMES:
        geometry = find_heads(shared(name))
        mean = torch.randn(reference.head_shape(shared(name)), generator=torch.Generator().manual_seed(1))
        ones = torch.ones(geometry.n_layers, geometry.hidden_size)  # norms behind W_O: test_writing.py
        scale = ones if geometry.writing.normed else None
        expected = instruction_vector(geometry, mean, HEADS, scale)
        torch.testing.assert_close(summed(head_vectors(geometry, mean, scale), HEADS), expected)


def test_drift_compares_the_same_heads_and_is_one_for_the_model_itself():
    geometry = find_heads(shared("llama"))
    generator = torch.Generator().manual_seed(2)
    before, now = (torch.randn(3, 4, 48, generator=generator) for _ in range(2))
    sets = random_head_sets(geometry, HEADS, 7, np.random.default_rng(0))
    found = vector_drift(before, now, HEADS, sets)
    for row, heads in zip(found.itertuples(), [HEADS, *sets], strict=True):
        one, other = (sum(x[layer, head] for layer, head in heads) for x in (before, now))
        assert row.cosine == pytest.approx(float(torch.cosine_similarity(one, other, 0)), abs=1e-6)
    assert list(found.heads) == ["selected", *["random"] * 7]
    assert vector_drift(now, 3 * now, HEADS, sets).cosine.to_numpy() == pytest.approx(1.0)


def test_random_head_sets_are_other_heads_and_reproducible():
    geometry = find_heads(shared("llama"))
    sets, again = (random_head_sets(geometry, HEADS, 20, np.random.default_rng(3)) for _ in range(2))
    assert sets == again
    assert all(len(set(heads)) == len(HEADS) and not set(heads) & set(HEADS) for heads in sets)
    assert len({tuple(heads) for heads in sets}) > 10
    most = list(itertools.product(range(3), range(4)))[:7]
    with pytest.raises(UserError, match="only 5 other heads"):
        random_head_sets(geometry, most, 1, np.random.default_rng(0))


def greedy_questions(model, wrong: int = 2) -> list[Question]:
    """Prompts with what the model says, two tokens of it; the first ``wrong`` with something else."""
    said = [reference.greedy(model, prompt, 2) for prompt in PROMPTS]
    answers = [[(t[0] + 1) % 300 + 1, t[1]] if i < wrong else t for i, t in enumerate(said)]
    return [Question(prompt, [answer]) for prompt, answer in zip(PROMPTS, answers, strict=True)]


def says(model, question: Question) -> bool:
    return reference.continuation(model, question.context, question.continuations[0])[1]


@pytest.mark.parametrize("name", NAMES)
def test_heads_put_back_are_those_of_the_other_model(name):
    """Against a pass per prompt with every head replaced by its own hook."""
    before, now = build(name, 1), shared(name)
    questions = greedy_questions(now)
    outputs = head_outputs(PrefixEngine(before), questions, HEADS, BUDGET)
    for prompt, found in zip(PROMPTS, outputs, strict=True):
        expected = reference.head_outputs(before, prompt)
        torch.testing.assert_close(
            found, torch.stack([expected[place] for place in HEADS]), rtol=1e-4, atol=1e-5
        )
    engine = PrefixEngine(now)
    assert answered(engine, questions, BUDGET) == pytest.approx(4 / 6)
    own = head_outputs(engine, questions, HEADS, BUDGET)
    assert answered(engine, questions, BUDGET, HEADS, own) == pytest.approx(4 / 6)
    right = 0
    for question, values in zip(questions, 3 * outputs, strict=True):
        patches = [
            reference.patched_head(now, *place, len(question.context) - 1, value)
            for place, value in zip(HEADS, values, strict=True)
        ]
        for patch in patches:
            patch.__enter__()
        right += says(now, question)
        for patch in reversed(patches):
            patch.__exit__(None, None, None)
    assert answered(engine, questions, BUDGET, HEADS, 3 * outputs) == pytest.approx(right / 6)
    assert right < 4  # the replacement does something
    assert reference.hook_count(now) == 0


def accuracy_with(model, questions, layer: int, vectors) -> float:
    right = 0
    for question, vector in zip(questions, vectors, strict=True):
        with reference.shifted_residual(model, layer, len(question.context) - 1, vector):
            right += says(model, question)
    return right / len(questions)


def test_conditions_equal_one_pass_per_layer_and_vector():
    model = shared("llama")
    engine, vector = PrefixEngine(model), theta(model)
    questions = greedy_questions(model)
    asked = SetQuestions(questions, questions, questions[::-1], questions)
    zero = torch.zeros(len(questions), len(HEADS), 12)
    noise = torch.Generator().manual_seed(0)
    vectors = {"initial": vector, "current": 0.3 * vector}
    found = stage_conditions(engine, asked, vectors, zero, HEADS, [0, 2], noise, BUDGET)
    value = found.set_index(["condition", "vector", "layer"]).accuracy
    for (name, added), layer in itertools.product(vectors.items(), (0, 2)):
        expected = accuracy_with(model, questions, layer, [added] * len(questions))
        assert value["add", name, layer] == pytest.approx(expected)
    assert value["zero-shot", "", -1] == value["few-shot", "", -1] == pytest.approx(4 / 6)
    assert value["restored", "", -1] == pytest.approx(answered(engine, questions, BUDGET, HEADS, zero))
    assert {("add", "random", 0), ("add", "random", 2)} <= set(value.index)

    swept = layer_sweep(engine, questions, 0.3 * vector, [2, 0], BUDGET).set_index("layer").accuracy
    assert swept.to_dict() == {layer: value["add", "current", layer] for layer in (2, 0)}
    before = before_training(engine, asked, vector, 1, noise, BUDGET).set_index(["condition", "vector"])
    expected = accuracy_with(model, questions, 1, [-vector] * len(questions))
    assert before.accuracy["remove", "initial"] == pytest.approx(expected)
    assert before.accuracy["demonstrations", ""] == pytest.approx(4 / 6)
    assert ("remove", "random") in before.index


def task(count: int = 8) -> pd.DataFrame:
    rows = [
        (split, f"{split}-{i}", "Say it twice.", f"{split} {i}", f"{i}{i}", None, None, None, None, None)
        for split in ("train", "validation", "test")
        for i in range(count)
    ]
    columns = [
        "split", "example_id", "instruction", "input", "target", "choices", "label", "knowledge_prompt",
        "knowledge_target", "knowledge_choices",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"knowledge_prompt": object})


def test_questions_are_those_of_the_evaluation():
    found = set_questions(tokenizer(), task(), "twice", Template(), 2, 5, seed=3)
    for questions, shots in ((found.zero_shot, 0), (found.few_shot, 2)):
        items = build_items(task(), "twice", "instruction", shots, Template(), 3)[:5]
        assert [tokenizer().decode(q.context) for q in questions] == [item.prompt for item in items]
    decoded = tokenizer().decode
    shown = [decoded(q.context) for q in found.few_shot]
    assert [decoded(q.context) for q in found.demonstrations] == [
        text.removeprefix("Say it twice.\n\n") for text in shown
    ]
    assert all("Input: validation" in decoded(q.context) for q in found.chosen_on)
    assert [decoded(q.continuations[0]) for q in found.zero_shot] == [f" {i}{i}" for i in range(5)]


def test_a_checkpoint_is_traced_beside_the_model_before_it():
    """Stage 0 agrees with itself; a later one is compared with it and has the current vector too."""
    prompts = build_prompts(task(), "twice", PromptPlan(2, 6, 4), Template(), 0)
    asked = set_questions(tokenizer(), task(), "twice", Template(), 2, 5, 0)
    plan = Plan(HEADS, [0, 1, 2], False, 5, 3, "full", 0, 200)
    base = trace_set(PrefixEngine(build("llama", 1)), tokenizer(), "twice", asked, prompts, plan)
    assert base.drift.cosine.to_numpy() == pytest.approx(1.0)
    assert base.effects.prompt_id.nunique() == 3
    shot = base.conditions.set_index(["split", "condition", "vector", "layer"]).accuracy
    assert shot["test", "restored", "", -1] == shot["test", "few-shot", "", -1]
    assert set(base.alignment.vector) == {"initial"}
    engine = PrefixEngine(build("llama", 2))
    later = trace_set(engine, tokenizer(), "twice", asked, prompts, plan, base.initial)
    assert later.drift.cosine.abs().max() < 0.99
    assert set(later.alignment.vector) == {"initial", "current"}
    assert set(later.conditions.condition) == {"zero-shot", "few-shot", "restored", "add"}
    again = trace_set(engine, tokenizer(), "twice", asked, prompts, plan, base.initial)
    pd.testing.assert_frame_equal(later.conditions, again.conditions)
    added = later.conditions[later.conditions.condition == "add"]
    assert set(added.layer) == {int(base.initial.layer)}
    whole = trace_set(
        engine, tokenizer(), "twice", asked, prompts, replace(plan, every_layer=True), base.initial
    ).conditions
    assert set(whole[whole.condition == "add"].layer) == {0, 1, 2}
