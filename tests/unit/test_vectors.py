"""Activations, causal effects, ranking, vectors and interventions against one forward pass per thing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

import reference
from anamnesis.core.artifacts import write_tensors
from anamnesis.core.errors import UserError
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.vectors.activations import check_answered, mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.instruction import head_additions, instruction_vector
from anamnesis.vectors.interventions import intervene, random_vectors
from anamnesis.vectors.ranking import EFFECT_COLUMNS, rank_heads
from tiny_models import ARCHITECTURES, build, shared, token_ids

OWN = token_ids(1, 12, 7, 19, 1, 9, 15)
INSTRUCTION = token_ids(2, 13)[0]  # long enough, for six prompts, to be run once
PROMPTS = [[*INSTRUCTION, *own] for own in OWN]
IDS = ["b", "a", "f", "c", "e", "d"]  # not in the order of their names


def mean_of(model, seed: int = 3) -> torch.Tensor:
    return torch.randn(reference.head_shape(model), generator=torch.Generator().manual_seed(seed))


def asked(seed: int = 40, prompts=PROMPTS) -> list[Question]:
    """Prompts with targets of one to three tokens."""
    return [Question(prompt, token_ids(seed + i, 1 + i % 3)) for i, prompt in enumerate(prompts)]


# ---------------------------------------------------------------- mean activations


def with_answers(model, right: int, choices: bool) -> list[Question]:
    """The first ``right`` prompts have the answer the model gives, the others another one."""
    questions = []
    for i, prompt in enumerate(PROMPTS):
        said = reference.greedy(model, prompt, 2)
        other = token_ids(60 + i, 2)[0]
        first, second = (said, other) if i < right else (other, said)
        questions.append(Question(prompt, [first, second] if choices else [first]))
    return questions


@pytest.mark.parametrize("choices", [False, True], ids=["free", "choices"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2"])
def test_mean_is_over_correctly_answered_prompts(name, choices):
    model = shared(name)
    found = mean_head_activations(PrefixEngine(model), with_answers(model, 5, choices), batch_tokens=40)
    expected = torch.stack([reference.head_outputs(model, prompt) for prompt in PROMPTS[:5]]).mean(0)
    torch.testing.assert_close(found.mean, expected, rtol=1e-4, atol=1e-5)
    assert (found.count, found.correct, found.prompts, found.over) == (5, 5, 6, "correct")


def test_mean_over_too_few_correct_prompts_is_over_all():
    model = shared("llama")
    found = mean_head_activations(PrefixEngine(model), with_answers(model, 4, True), batch_tokens=10**6)
    expected = torch.stack([reference.head_outputs(model, prompt) for prompt in PROMPTS]).mean(0)
    torch.testing.assert_close(found.mean, expected, rtol=1e-4, atol=1e-5)
    assert (found.count, found.correct, found.prompts, found.over) == (6, 4, 6, "all")


def test_few_prompts_all_correct_count_as_correct():
    model = shared("llama")
    found = mean_head_activations(PrefixEngine(model), with_answers(model, 6, False)[:2], batch_tokens=10**6)
    assert (found.count, found.correct, found.prompts, found.over) == (2, 2, 2, "correct")


def test_a_task_that_the_model_never_answers_is_refused_and_one_answered_once_is_not(tmp_path):
    def mean(task: str, right: int):
        model = shared("llama")
        found = mean_head_activations(PrefixEngine(model), with_answers(model, right, True), 40)
        header = {"task": task, "correct": str(found.correct), "prompts": str(found.prompts)}
        write_tensors(tmp_path / task, {"mean": found.mean}, header)
        return tmp_path / task

    once, never = mean("once", 1), mean("never", 0)
    check_answered([])
    check_answered([once, str(once)])
    with pytest.raises(
        UserError, match=r"^never: the model before training answers 0 of 6 prompts"
    ) as caught:
        check_answered([once, never])
    assert "vectors.never_answered to average" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- causal effects


@pytest.mark.parametrize(
    ("target", "prompts"),
    [("full", PROMPTS), ("first_token", PROMPTS), ("full", OWN)],
    ids=["full", "first", "own"],
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_effects_equal_one_forward_per_head(name, target, prompts):
    model, mean, questions = shared(name), mean_of(shared(name)), asked(prompts=prompts)
    found = causal_effects(PrefixEngine(model), questions, IDS, mean, batch_tokens=90, target=target)
    expected = reference.causal_effects(model, questions, IDS, mean, target)
    assert list(found.columns) == EFFECT_COLUMNS
    pd.testing.assert_frame_equal(found[EFFECT_COLUMNS[:3]], expected[EFFECT_COLUMNS[:3]], check_dtype=False)
    clean, patched = np.exp(expected.log_clean), np.exp(expected.log_patched)
    for column, wanted in (("p_clean", clean), ("p_patched", patched), ("effect", patched - clean)):
        assert (found[column] - wanted).abs().max() <= 1e-5
    log_effect = expected.log_patched - expected.log_clean
    assert (found.log_effect - log_effect).abs().max() <= 1e-4 * expected.log_patched.abs().max()
    assert log_effect.abs().min() > 0
    assert log_effect.abs().max() > 0.1


def test_first_token_differs_from_full_only_for_longer_targets():
    engine, mean = PrefixEngine(shared("llama")), mean_of(shared("llama"))
    full, first = (
        causal_effects(engine, asked(), IDS, mean, 10**6, target=t) for t in ("full", "first_token")
    )
    for prompt_id, question in zip(IDS, asked(), strict=True):
        one, other = (frame[frame.prompt_id == prompt_id].log_effect for frame in (full, first))
        same = np.allclose(one, other, rtol=1e-4, atol=1e-5)
        assert same == (len(question.continuations[0]) == 1)


@pytest.mark.parametrize("shards", [2, 3, 9])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_shards_together_are_the_whole_bit_for_bit(name, shards, tmp_path):
    engine, mean = PrefixEngine(shared(name)), mean_of(shared(name))
    whole = causal_effects(engine, asked(), IDS, mean, batch_tokens=60)
    parts = []
    for shard in range(shards):
        part = causal_effects(engine, asked(), IDS, mean, 60, shard=shard, shards=shards)
        part.to_parquet(tmp_path / "part.parquet")  # as the workflow hands them on
        parts.append(pd.read_parquet(tmp_path / "part.parquet"))
    assert min(map(len, parts)) < len(whole) / shards or shards < 3
    assert shards < 9 or min(map(len, parts)) == 0  # more shards than batches: some are empty
    joined = pd.concat(parts, ignore_index=True).sort_values(EFFECT_COLUMNS[:3], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole, check_exact=True)


def test_what_all_prompts_begin_with_runs_once():
    engine, rows = PrefixEngine(shared("llama")), []
    hook = engine.geometry.blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: rows.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    mean_head_activations(engine, asked(), batch_tokens=10**6)
    hook.remove()
    answers = sum(len(q.continuations[0]) - 1 for q in asked())
    assert rows == [len(INSTRUCTION), sum(map(len, OWN)) + answers]


def test_effects_tell_their_progress():
    done = []
    model = shared("llama")
    causal_effects(PrefixEngine(model), asked(), IDS, mean_of(model), batch_tokens=60, progress=done.append)
    assert sum(done) == len(PROMPTS)
    assert len(done) > 1


def table(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt_id", "layer", "head", "effect", "log_effect"])


def effects_by_hand() -> dict[str, pd.DataFrame]:
    """Two tasks, two heads: task one has two prompts, task two three."""
    one = table(
        [("p0", 0, 0, 0.1, 1.0), ("p1", 0, 0, 0.3, 1.0), ("p0", 0, 1, 0.4, 0.5), ("p1", 0, 1, 0.4, 0.5)]
    )
    two = table(
        [(f"p{i}", 0, 0, e, 2.0) for i, e in enumerate([0.0, 0.3, 0.6])]
        + [(f"p{i}", 0, 1, 0.2, 0.1) for i in range(3)]
    )
    return {"one": one, "two": two}


def test_ranking_by_hand():
    """Head 0: means 0.2 and 0.3 -> 0.25; variances 0.02 / 2 and 0.09 / 3 -> sqrt(0.01 + 0.03) / 2 = 0.1."""
    ranked = rank_heads(effects_by_hand(), "probability", top=1)
    assert ranked.columns.tolist() == [
        "rank", "layer", "head", "effect", "standard_error", "n_prompts", "n_tasks", "selected",
    ]  # fmt: skip
    assert ranked["rank"].tolist() == [1, 2]
    assert ranked["head"].tolist() == [1, 0]
    assert ranked.effect.tolist() == pytest.approx([0.3, 0.25])
    assert ranked.standard_error.tolist() == pytest.approx([0.0, 0.1])
    assert ranked.n_prompts.tolist() == [5, 5]
    assert ranked.n_tasks.tolist() == [2, 2]
    assert ranked.selected.tolist() == [True, False]


def test_ranking_by_log_probability_and_from_a_list():
    ranked = rank_heads(effects_by_hand(), "log_probability", top=1)
    assert ranked["head"].tolist() == [0, 1]
    assert ranked.effect.tolist() == pytest.approx([1.5, 0.3])
    fixed = rank_heads(effects_by_hand(), "log_probability", top=1, fixed=[(0, 1)])
    assert fixed.selected.tolist() == [False, True]


def test_ties_are_ranked_by_place_and_the_error_of_a_single_prompt_is_unknown():
    frame = table([("p", layer, head, 0.5, 0.5) for layer in (1, 0) for head in (2, 0, 1)])
    ranked = rank_heads({"task": frame}, "probability", top=6)
    assert list(zip(ranked.layer, ranked["head"], strict=True)) == [(a, h) for a in (0, 1) for h in (0, 1, 2)]
    assert ranked.standard_error.isna().all()


def test_more_heads_than_there_are():
    with pytest.raises(UserError, match=r"vectors\.heads is 3 but the model has 2 heads"):
        rank_heads(effects_by_hand(), "probability", top=3)


@pytest.mark.parametrize("missing", [(1, 0), (0, 2), (0, -1), (-1, 0)])
def test_listed_head_that_does_not_exist(missing):
    with pytest.raises(UserError) as caught:
        rank_heads(effects_by_hand(), "probability", top=1, fixed=[(0, 1), missing])
    assert str(caught.value) == (
        f"vectors.head_list names {list(missing)}, which the model does not have: layers are 0 to 0, heads 0 "
        "to 1; give heads in that range, or null to rank all"
    )


def test_listed_heads_may_come_as_lists_as_the_configuration_has_them():
    ranked = rank_heads(effects_by_hand(), "probability", top=1, fixed=[[0, 1], [0, 0]])
    assert ranked.selected.tolist() == [True, True]


# ---------------------------------------------------------------- instruction vectors

HEADS = [(2, 3), (0, 1), (1, 0), (1, 2)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vector_is_the_sum_of_what_each_head_writes(name):
    """Each head's mean goes through the projection alone; the bias is what the projection says to zeros."""
    model, mean = shared(name), mean_of(shared(name))
    _, heads, size = reference.head_shape(model)
    expected = torch.zeros(model.config.hidden_size)
    with torch.no_grad():
        for layer, head in HEADS:
            x = torch.zeros(1, 1, heads * size)
            bias = reference.projections(model)[layer](x)[0, 0]
            x[0, 0, head * size : (head + 1) * size] = mean[layer, head]
            expected += reference.projections(model)[layer](x)[0, 0] - bias
    geometry = find_heads(model)
    ones = torch.ones(geometry.n_layers, geometry.hidden_size)  # norms behind W_O: tests/unit/test_writing.py
    found = instruction_vector(geometry, mean, HEADS, ones if geometry.writing.normed else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_adapter_on_the_projection_is_part_of_the_vector_and_of_the_sweep():
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    model = get_peft_model(build("llama"), config).eval()
    mean = mean_of(model)
    engine = PrefixEngine(model)
    vector = instruction_vector(engine.geometry, mean, HEADS)
    effects = causal_effects(engine, asked(), IDS, mean, batch_tokens=10**6)
    base = instruction_vector(find_heads(shared("llama")), mean, HEADS)
    assert (vector - base).norm() > 0.05 * base.norm()
    merged = model.merge_and_unload()
    torch.testing.assert_close(
        vector, instruction_vector(find_heads(merged), mean, HEADS), rtol=1e-4, atol=1e-4
    )
    expected = reference.causal_effects(merged, asked(), IDS, mean, "full")
    assert (effects.p_patched - np.exp(expected.log_patched)).abs().max() <= 1e-5


def test_additions_are_the_same_vector_before_the_projection():
    geometry, mean = find_heads(shared("qwen3")), mean_of(shared("qwen3"))
    additions = head_additions(geometry, mean, HEADS)
    assert sorted(additions) == [0, 1, 2]
    for layer, addition in additions.items():
        for head in range(geometry.n_heads):
            expected = mean[layer, head] if (layer, head) in HEADS else torch.zeros(geometry.head_dim)
            assert torch.equal(addition[head], expected)
    mapped = sum(
        torch.einsum("hd,hdo->o", a, geometry.output_weight(layer)) for layer, a in additions.items()
    )
    torch.testing.assert_close(mapped, instruction_vector(geometry, mean, HEADS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [instruction_vector, head_additions])
def test_head_out_of_range_is_refused(make):
    geometry = find_heads(shared("llama"))
    with pytest.raises(UserError, match="layer 7 does not exist: the model has 3 layers"):
        make(geometry, mean_of(shared("llama")), [(0, 0), (7, 0)])


# ---------------------------------------------------------------- interventions


def shifted_answers(model, vectors: torch.Tensor, layers: list[int]) -> list[Question]:
    """Targets the model gives only under an intervention, or only without: hits and misses of both kinds."""
    questions = []
    for i, prompt in enumerate(PROMPTS):
        if i % 2:
            answer = reference.greedy(model, prompt, 1 + i % 3)
        else:
            answer = []
            for _ in range(1 + i % 3):
                with reference.shifted_residual(model, layers[i % 3], len(prompt) - 1, vectors[i, i % 2]):
                    answer += reference.greedy(model, [*prompt, *answer], 1)
        questions.append(Question(prompt, [answer]))
    return questions


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_interventions_equal_one_forward_per_layer_and_vector(name):
    model, layers = shared(name), [2, 0, 1]  # in any order the caller likes
    vectors = 6 * torch.randn(6, 2, model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    questions = shifted_answers(model, vectors, layers)
    changed, clean = intervene(PrefixEngine(model), questions, vectors, layers, batch_tokens=60)
    assert changed.shape == (2, 3, 6)
    for i, question in enumerate(questions):
        answer, end = question.continuations[0], len(question.context) - 1
        assert bool(clean[i]) == reference.continuation(model, question.context, answer)[1]
        for c in range(2):
            for k, layer in enumerate(layers):
                with reference.shifted_residual(model, layer, end, vectors[i, c]):
                    hit = reference.continuation(model, question.context, answer)[1]
                assert bool(changed[c, k, i]) == hit
    assert 0 < int(clean.sum()) < 6
    assert 0 < int(changed.sum()) < changed.numel()


def test_intervention_at_a_layer_that_does_not_exist():
    model = shared("llama")
    with pytest.raises(UserError, match="layer 3 does not exist"):
        intervene(PrefixEngine(model), asked(), torch.zeros(6, 1, 48), [0, 3], batch_tokens=100)


def test_random_vectors_have_the_norm_and_nothing_else_of_the_vector():
    vector = torch.randn(400, generator=torch.Generator().manual_seed(2))
    drawn = random_vectors(vector, 50, torch.Generator().manual_seed(3))
    assert drawn.shape == (50, 400)
    torch.testing.assert_close(drawn.norm(dim=-1), vector.norm().expand(50))
    assert (drawn @ vector).abs().max() < 0.3 * vector.norm() ** 2
    assert torch.equal(drawn, random_vectors(vector, 50, torch.Generator().manual_seed(3)))
    assert len(drawn.unique(dim=0)) == 50
