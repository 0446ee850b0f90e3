"""Batched greedy generation against transformers' own, one prompt at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import reference
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.hooks import added_to_residual
from anamnesis.engine.prefix_engine import PrefixEngine
from tiny_models import ARCHITECTURES, END, shared, token_ids

NEW = 12


def never(ids: list[int]) -> bool:
    return False


def prompts(shared_tokens: int) -> list[list[int]]:
    start = token_ids(2, shared_tokens)[0]
    return [[*start, *own] for own in token_ids(4, 13, 3, 9, 1, 21)]


def alone(
    engine, asked, count, stop=never, batch_tokens=10**6, progress=lambda done: None
) -> list[list[int]]:
    """The answers of one request."""
    (answers,) = generate(engine, [Request(asked, count)], stop, batch_tokens, progress)
    return answers


def requests() -> list[Request]:
    """Groups with different prefixes, lengths and limits; the second is empty, the fourth has no prefix."""
    first, second, third = token_ids(7, 10, 17, 3)
    return [
        Request([[*first, *own] for own in token_ids(8, 4, 13, 3, 9)], 5),
        Request([], 7),
        Request([[*second, *own] for own in token_ids(9, 2, 1)], 1),
        Request(token_ids(10, 6, 25, 1), NEW),
        Request([[*third, *own] for own in token_ids(11, 8)], 9),
    ]


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
    assert alone(PrefixEngine(model), asked, NEW, never, batch_tokens=10**6) == expected
    assert len({tuple(ids) for ids in expected}) == len(asked)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
def test_sequences_that_end_at_different_times(name):
    model, asked = shared(name), prompts(10)
    free = [reference.greedy(model, prompt, NEW) for prompt in asked]
    stops = [free[0][0], free[1][3], free[2][6]]
    expected = [by_transformers(model, prompt, NEW, stops) for prompt in asked]
    assert len({len(ids) for ids in expected}) >= 3
    found = alone(PrefixEngine(model), asked, NEW, lambda ids: ids[-1] in stops, batch_tokens=10**6)
    assert found == expected


def test_stop_sees_all_tokens_so_far_and_its_token_is_kept():
    model, asked = shared("llama"), prompts(0)
    found = alone(PrefixEngine(model), asked, NEW, lambda ids: sum(ids) > 500, batch_tokens=10**6)
    assert found == [reference.greedy(model, prompt, NEW, lambda ids: sum(ids) > 500) for prompt in asked]
    assert any(len(ids) < NEW for ids in found)
    assert all(sum(ids[:-1]) <= 500 for ids in found)


@pytest.mark.parametrize("budget", [1, 30])
def test_batches_of_any_size_give_the_same_tokens(budget):
    engine, done = PrefixEngine(shared("gemma3")), []
    together = alone(engine, prompts(10), NEW, never, batch_tokens=10**6)
    assert alone(engine, prompts(10), NEW, never, budget, done.append) == together
    assert sum(done) == 5
    assert len(done) > 1


def test_equal_prompts_and_one_prompt():
    model = shared("mistral")
    asked = [prompts(10)[0]] * 3
    expected = reference.greedy(model, asked[0], 5)
    assert alone(PrefixEngine(model), asked, 5, never, 100) == [expected] * 3
    assert alone(PrefixEngine(model), asked[:1], 5, never, 100) == [expected]
    assert alone(PrefixEngine(model), [], 5, never, 100) == []


@pytest.mark.parametrize("budget", [1, 25, 10**6])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gemma2", "mistral", "gpt2", "deepseek"])
def test_groups_decoded_together_equal_each_prompt_alone(name, budget):
    model = shared(name)
    expected = [[by_transformers(model, p, r.max_new_tokens, [-1]) for p in r.prompts] for r in requests()]
    assert generate(PrefixEngine(model), requests(), never, budget) == expected


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_groups_that_end_at_different_times(name):
    """The stops are tokens that prompts of several groups come to, so that groups end one by one."""
    model, asked = shared(name), requests()
    free = [[reference.greedy(model, p, r.max_new_tokens) for p in r.prompts] for r in asked]
    stops = {free[0][1][2], free[0][2][0], free[3][0][1], free[4][0][3]}
    expected = [[cut(ids, stops) for ids in group] for group in free]
    assert len({len(ids) for group in expected for ids in group}) >= 4
    done: list[int] = []
    assert generate(PrefixEngine(model), asked, lambda i: i[-1] in stops, 10**6, done.append) == expected
    assert sum(done) == 10
    assert min(done) > 0
    assert len(done) >= 4  # told as sequences end, not at the end of the batch


def cut(ids: list[int], stops: set[int]) -> list[int]:
    ends = [i for i, token in enumerate(ids) if token in stops]
    return ids[: ends[0] + 1] if ends else ids


@pytest.mark.parametrize("budget", [30, 60, 10**6])
def test_a_step_runs_all_groups_at_once_within_the_budget(budget):
    """Seen from outside: the sizes of the model's calls. Prefixes run once, whatever the budget."""
    model, asked, calls = shared("llama"), requests(), []
    engine = PrefixEngine(model)
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        answers = generate(engine, asked, never, budget)
    finally:
        hook.remove()
    decoded = sum(len(ids) - 1 for group in answers for ids in group)
    common = [engine.shared(r.prompts) for r in asked]
    read = sum(s + sum(len(p) - s for p in r.prompts) for s, r in zip(common, asked, strict=True))
    assert sum(calls) == decoded + read
    assert max(calls) <= budget
    if budget == 10**6:
        assert calls[-(NEW - 1) :] == [8] * 4 + [4] * 4 + [3] * 3


def test_each_group_has_its_own_changed_prompts():
    """A context around one group's prompts changes its answers and no others'."""
    model = shared("llama")
    engine, (first, *others) = PrefixEngine(model), requests()
    vector = 30 * torch.randn(engine.geometry.hidden_size, generator=torch.Generator().manual_seed(0))
    changed = replace(first, change_prompt=lambda rows: added_to_residual(engine.geometry, 1, vector, rows))
    plain = generate(engine, [first, *others], never, 10**6)
    found = generate(engine, [changed, *others], never, 10**6)
    assert found[1:] == plain[1:]
    assert all(a != b for a, b in zip(found[0], plain[0], strict=True))
    for prompt, ids in zip(first.prompts, found[0], strict=True):
        with reference.shifted_residual(model, 1, len(prompt) - 1, vector):
            assert ids[0] == reference.greedy(model, prompt, 1)[0]


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_tokens_than_asked_for(count):
    found = alone(PrefixEngine(shared("llama")), prompts(10), count, never, 10**6)
    assert [len(ids) for ids in found] == [count] * 5


def test_model_is_left_as_it_was():
    model = shared("llama")
    before = model.config._attn_implementation, reference.hook_count(model)

    def broken(ids):
        raise KeyError("the caller's own code failed")

    with pytest.raises(KeyError, match="own code failed"):
        alone(PrefixEngine(model), prompts(10), 4, broken, 10**6)
    assert (model.config._attn_implementation, reference.hook_count(model)) == before
