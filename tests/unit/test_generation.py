"""Batched greedy generation against transformers' own, one prompt at a time."""

from __future__ import annotations

import pytest
import torch

import reference
from anamnesis.evaluation.generation import generate
from anamnesis.prefix.engine import PrefixEngine
from tiny_models import ARCHITECTURES, END, shared, token_ids

NEW = 12


def never(ids: list[int]) -> bool:
    return False


def prompts(shared_tokens: int) -> list[list[int]]:
    start = token_ids(2, shared_tokens)[0]
    return [[*start, *own] for own in token_ids(4, 13, 3, 9, 1, 21)]


@torch.no_grad()
def by_transformers(model, prompt: list[int], count: int, stops: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    whole = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=END,
    )
    return whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("shared_tokens", [0, 10])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_generation_equals_that_of_transformers(name, shared_tokens):
    model, asked = shared(name), prompts(shared_tokens)
    expected = [by_transformers(model, prompt, NEW, [-1]) for prompt in asked]
    assert generate(PrefixEngine(model), asked, NEW, never, token_budget=10**6) == expected
    assert len({tuple(ids) for ids in expected}) == len(asked)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
def test_sequences_that_end_at_different_times(name):
    model, asked = shared(name), prompts(10)
    free = [reference.greedy(model, prompt, NEW) for prompt in asked]
    stops = [free[0][0], free[1][3], free[2][6]]
    expected = [by_transformers(model, prompt, NEW, stops) for prompt in asked]
    assert len({len(ids) for ids in expected}) >= 3
    found = generate(PrefixEngine(model), asked, NEW, lambda ids: ids[-1] in stops, token_budget=10**6)
    assert found == expected


def test_stop_sees_all_tokens_so_far_and_its_token_is_kept():
    model, asked = shared("llama"), prompts(0)
    found = generate(PrefixEngine(model), asked, NEW, lambda ids: sum(ids) > 500, token_budget=10**6)
    assert found == [reference.greedy(model, prompt, NEW, lambda ids: sum(ids) > 500) for prompt in asked]
    assert any(len(ids) < NEW for ids in found)
    assert all(sum(ids[:-1]) <= 500 for ids in found)


@pytest.mark.parametrize("budget", [1, 30])
def test_batches_of_any_size_give_the_same_tokens(budget):
    engine, done = PrefixEngine(shared("gemma3")), []
    together = generate(engine, prompts(10), NEW, never, token_budget=10**6)
    assert generate(engine, prompts(10), NEW, never, budget, done.append) == together
    assert sum(done) == 5
    assert len(done) > 1


def test_equal_prompts_and_one_prompt():
    model = shared("mistral")
    asked = [prompts(10)[0]] * 3
    expected = reference.greedy(model, asked[0], 5)
    assert generate(PrefixEngine(model), asked, 5, never, 100) == [expected] * 3
    assert generate(PrefixEngine(model), asked[:1], 5, never, 100) == [expected]
    assert generate(PrefixEngine(model), [], 5, never, 100) == []


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_tokens_than_asked_for(count):
    found = generate(PrefixEngine(shared("llama")), prompts(10), count, never, 10**6)
    assert [len(ids) for ids in found] == [count] * 5


def test_model_is_left_as_it_was():
    model = shared("llama")
    before = model.config._attn_implementation, reference.hook_count(model)

    def broken(ids):
        raise KeyError("the caller's own code failed")

    with pytest.raises(KeyError, match="own code failed"):
        generate(PrefixEngine(model), prompts(10), 4, broken, 10**6)
    assert (model.config._attn_implementation, reference.hook_count(model)) == before
