"""The sweep over all heads, part by part: batches, rows of logits and the table, each by hand."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import reference
from anamnesis.core.errors import UserError
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.vectors import effects as module
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.ranking import EFFECT_COLUMNS
from tiny_models import shared, token_ids

PROMPTS = [[*token_ids(2, 13)[0], *own] for own in token_ids(1, 12, 7, 19, 1, 9, 15)]
IDS = ["b", "a", "f", "c", "e", "d"]
QUESTIONS = [Question(prompt, token_ids(40 + i, 1 + i % 3)) for i, prompt in enumerate(PROMPTS)]


def mean_of(model) -> torch.Tensor:
    return torch.randn(reference.head_shape(model), generator=torch.Generator().manual_seed(3))


def test_prompts_are_batched_by_the_tokens_of_their_targets_within_the_budget():
    engine = SimpleNamespace(geometry=SimpleNamespace(n_layers=2, n_heads=3))
    contexts, targets = (9, 5, 7, 12, 5), (1, 2, 1, 1, 2)
    questions = [Question([0] * n, [[1] * m, [1, 1, 1]]) for n, m in zip(contexts, targets, strict=True)]
    # tokens after the two shared ones, and a row for each of six heads and target token
    #   of one token: 13, 11, 16;  of two: 15, 15
    assert module._batches(engine, questions, 2, 29, "full") == [[3, 0], [2], [1], [4]]
    assert module._batches(engine, questions, 2, 28, "full") == [[3], [0, 2], [1], [4]]
    assert module._batches(engine, questions, 2, 30, "full") == [[3, 0], [2], [1, 4]]
    # by their first token they are all alike: 13, 9, 11, 16, 9
    assert module._batches(engine, questions, 2, 29, "first_token") == [[3, 0], [2, 1, 4]]
    assert module._batches(engine, questions, 2, 28, "first_token") == [[3], [0, 2], [1, 4]]


def test_the_table_has_a_row_for_each_prompt_layer_and_head():
    patched = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.7, 0.8]], [[0.9, 0.25], [0.5, 0.75]]])
    clean = torch.tensor([0.5, 0.125]).double()
    found = module._frame(["x", "y"], patched.double().log(), clean.log())
    assert list(found.columns) == EFFECT_COLUMNS
    assert found[EFFECT_COLUMNS[:3]].to_numpy().tolist() == [
        [prompt, layer, head] for prompt in "xy" for layer in range(3) for head in range(2)
    ]
    wanted = patched.movedim(2, 0).flatten().tolist()
    before = [0.5] * 6 + [0.125] * 6
    assert found.p_patched.tolist() == pytest.approx(wanted)
    assert found.p_clean.tolist() == pytest.approx(before)
    pairs = list(zip(wanted, before, strict=True))
    assert found.effect.tolist() == pytest.approx([p - b for p, b in pairs], abs=1e-7)
    assert found.log_effect.tolist() == pytest.approx([log(p / b) for p, b in pairs], abs=1e-7)


def test_the_log_probability_of_a_token_by_hand():
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, log(2.0)]])
    found = module._log_probability(logits, torch.tensor([1, 2]))
    assert found.tolist() == pytest.approx([2 - log(exp(1) + exp(2) + exp(3)), log(0.5)])


@pytest.mark.parametrize("prompts", [6, 1])  # one prompt has no prefix in common with another
@pytest.mark.parametrize("target", ["full", "first_token"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_effects_equal_one_forward_per_head(name, target, prompts, monkeypatch):
    """Also where logits are read a few rows at a time."""
    monkeypatch.setattr(module, "ROWS", 7)
    model, mean, questions, ids = shared(name), mean_of(shared(name)), QUESTIONS[:prompts], IDS[:prompts]
    found = causal_effects(PrefixEngine(model), questions, ids, mean, 90, target=target)
    expected = reference.causal_effects(model, questions, ids, mean, target)
    pd.testing.assert_frame_equal(found[EFFECT_COLUMNS[:3]], expected[EFFECT_COLUMNS[:3]], check_dtype=False)
    assert found.p_clean.to_numpy() == pytest.approx(expected.log_clean.map(exp).to_numpy(), abs=1e-5)
    assert found.p_patched.to_numpy() == pytest.approx(expected.log_patched.map(exp).to_numpy(), abs=1e-5)
    gain = (expected.log_patched - expected.log_clean).to_numpy()
    assert found.log_effect.to_numpy() == pytest.approx(gain, abs=2e-4)


def test_targets_are_whole_unless_asked_otherwise():
    engine, mean = PrefixEngine(shared("llama")), mean_of(shared("llama"))
    plain = causal_effects(engine, QUESTIONS, IDS, mean, 90)
    pd.testing.assert_frame_equal(plain, causal_effects(engine, QUESTIONS, IDS, mean, 90, "full", 0, 1))


def test_no_more_logits_than_allowed_are_in_float32_at_a_time(monkeypatch):
    seen, plain = [], module._log_probability

    def watched(logits, wanted):
        seen.append((len(logits), logits.dtype))
        return plain(logits, wanted)

    monkeypatch.setattr(module, "ROWS", 50)
    monkeypatch.setattr(module, "_log_probability", watched)
    model = shared("llama")
    run = PrefixEngine.run
    monkeypatch.setattr(PrefixEngine, "run", lambda *args: run(*args).bfloat16())
    found = causal_effects(PrefixEngine(model), QUESTIONS[:2], IDS[:2], mean_of(model), 10**6)
    assert {dtype for _, dtype in seen} == {torch.float32}
    heads = reference.head_shape(model)[0] * reference.head_shape(model)[1]
    rows = [heads + 1, 2 * (heads + 1)]  # targets of one and of two tokens
    assert [n for n, _ in seen] == [min(50, total - k) for total in rows for k in range(0, total, 50)]
    assert found.p_patched.dtype == found.log_effect.dtype == "float64"


@pytest.mark.parametrize(
    ("prompts", "target", "shared_tokens", "batches"),
    [(6, "full", 13, 3), (6, "first_token", 13, 1), (1, "full", 0, 1)],
)
def test_what_all_prompts_begin_with_runs_once_and_does_not_count_in_a_batch(
    prompts, target, shared_tokens, batches, monkeypatch
):
    model, asked, rows = shared("llama"), [], []
    engine, plain = PrefixEngine(model), module._batches

    def watched(*args):
        asked.append(args[2:])
        return plain(*args)

    monkeypatch.setattr(module, "_batches", watched)
    hook = engine.geometry.blocks[0].register_forward_pre_hook(
        lambda block, args, kwargs: rows.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    causal_effects(engine, QUESTIONS[:prompts], IDS[:prompts], mean_of(model), 10**6, target)
    hook.remove()
    assert asked == [(shared_tokens, 10**6, target)]
    assert rows[0] == shared_tokens or not shared_tokens
    assert len(rows) == batches + bool(shared_tokens)
    answers = 0 if target == "first_token" else sum(len(q.continuations[0]) - 1 for q in QUESTIONS[:prompts])
    own = sum(len(q.context) - shared_tokens for q in QUESTIONS[:prompts])
    assert sum(rows) == shared_tokens + own + answers  # below the first layer no head has a row of its own


def test_each_batch_is_told_when_it_is_done():
    model, done = shared("llama"), []
    engine = PrefixEngine(model)
    causal_effects(engine, QUESTIONS, IDS, mean_of(model), 10**6, progress=done.append)
    assert done == [2, 2, 2]  # targets of one, two and three tokens
    done.clear()
    causal_effects(engine, QUESTIONS, IDS, mean_of(model), 10**6, "full", 1, 2, progress=done.append)
    assert done == [2]


def test_a_shard_without_a_batch_has_the_columns_of_the_others():
    model = shared("llama")
    engine = PrefixEngine(model)
    whole = causal_effects(engine, QUESTIONS, IDS, mean_of(model), 10**6)
    nothing = causal_effects(engine, QUESTIONS, IDS, mean_of(model), 10**6, shard=3, shards=4)
    assert len(nothing) == 0
    assert nothing.dtypes.to_dict() == whole.dtypes.to_dict()
    assert whole.prompt_id.is_monotonic_increasing
    assert whole.index.tolist() == list(range(len(whole)))


@pytest.mark.parametrize(("ids", "different"), [(["a", "a"], 1), (["a"], 1), (["a", "b", "c"], 3)])
def test_each_prompt_has_an_id_of_its_own(ids, different):
    model = shared("llama")
    with pytest.raises(
        UserError, match=f"^2 prompts have {different} different prompt_ids: give each its own$"
    ):
        causal_effects(PrefixEngine(model), QUESTIONS[:2], ids, mean_of(model), 64)
