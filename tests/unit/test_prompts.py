"""Prompts as text and as tokens, in-context prompts of a task, and what intervening on them shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import reference
from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import (
    Template,
    draw_demonstrations,
    draw_varied_demonstrations,
    generator,
    shuffle_labels,
)
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.stats.layers import best_layer, chosen_layers
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.interventions import intervention_table
from tiny_models import shared, tokenizer

TEMPLATE = Template()


def task(choices: bool = False, train: int = 12, queries: int = 4, target: str | None = None) -> pd.DataFrame:
    rows = [
        (
            split,
            f"{split}-{i:04d}",
            "Name it.",
            f"{split} thing {i}",
            target or ["cold", "small", "hot"][i % 3],
        )
        for split, n in (("train", train), ("validation", queries), ("test", queries))
        for i in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "instruction", "input", "target"])
    frame["choices"] = [["hot", "cold", "small"] if choices else None for _ in rows]
    frame["label"] = [["hot", "cold", "small"].index(t) if choices else None for t in frame.target]
    return frame


# ---------------------------------------------------------------- text


def test_prompt_text():
    shots = [("hot", "cold"), ("big", "small")]
    assert TEMPLATE.render("Give the opposite.", shots, "up") == (
        "Give the opposite.\n\nInput: hot\nOutput: cold\n\nInput: big\nOutput: small\n\nInput: up\nOutput:"
    )
    assert TEMPLATE.render(None, [], "up") == "Input: up\nOutput:"
    assert Template("Q:", "A:", "\n").render("Do.", shots[:1], "up") == "Do.\nQ: hot\nA: cold\nQ: up\nA:"


def test_demonstrations_differ_and_never_show_the_query():
    pool = [(f"x{i}", f"y{i}") for i in range(6)]
    for seed in range(20):
        drawn = draw_demonstrations(np.random.default_rng(seed), pool, 5, "x3", "letters")
        assert len(set(drawn)) == 5
        assert set(drawn) == set(pool) - {("x3", "y3")}


def test_more_shots_than_examples_are_refused():
    pool = [(f"x{i}", "y") for i in range(5)]
    assert len(draw_demonstrations(np.random.default_rng(0), pool, 5, "other", "letters")) == 5
    for draw in (draw_demonstrations, draw_varied_demonstrations):
        with pytest.raises(UserError) as caught:
            draw(np.random.default_rng(0), pool, 5, "x3", "letters")
        assert str(caught.value) == (
            "task 'letters' has 5 examples to draw demonstrations from but shots is 5: lower the number of "
            "shots or give the task more training examples"
        )


def test_shuffled_labels_keep_inputs_and_answers_but_not_their_pairs():
    shown = [("a", "1"), ("b", "2"), ("c", "2"), ("d", "2")]
    for seed in range(20):
        shuffled = shuffle_labels(np.random.default_rng(seed), shown)
        assert [x for x, _ in shuffled] == ["a", "b", "c", "d"]
        assert sorted(y for _, y in shuffled) == ["1", "2", "2", "2"]
        assert shuffled != shown
    same = [("a", "1"), ("b", "1")]
    assert shuffle_labels(np.random.default_rng(0), same) == same


def test_random_numbers_depend_on_seed_and_purpose_alone():
    first = generator(1, "antonym", "prompts").random(4).tolist()
    assert generator(1, "antonym", "prompts").random(4).tolist() == first
    assert generator(2, "antonym", "prompts").random(4).tolist() != first
    assert generator(1, "plural", "prompts").random(4).tolist() != first


# ---------------------------------------------------------------- tokens


def test_pairs_are_the_tokens_of_the_whole_text_split_where_the_context_ends():
    contexts = ["Input: hot\nOutput:", "Input: a longer one\nOutput:"]
    answers = [" cold", " größer als"]
    for (head, tail), context, answer in zip(
        encode_pairs(tokenizer(), contexts, answers), contexts, answers, strict=True
    ):
        assert head == tokenizer()(context).input_ids
        assert head + tail == tokenizer()(context + answer).input_ids
        assert tokenizer().decode(tail) == answer
    assert encode_pairs(tokenizer(), [], []) == []


def test_answer_without_a_token_is_refused():
    with pytest.raises(UserError, match="the answer '' gets no token of its own"):
        encode_pairs(tokenizer(), ["Input: hot\nOutput:"], [""])


# ---------------------------------------------------------------- in-context prompts


def test_prompts_of_a_task():
    frame, plan = task(), PromptPlan(shots=3, clean=6, shuffled=5)
    prompts = build_prompts(frame, "things", plan, TEMPLATE, seed=0)
    assert prompts.kind.value_counts().to_dict() == {"clean": 6, "shuffled": 5}
    assert prompts.prompt_id.is_unique
    rows = frame.set_index("example_id")
    assert set(rows.split[prompts.query_id]) == {"validation"}
    for prompt in prompts.itertuples():
        query, shown = rows.loc[prompt.query_id], rows.loc[prompt.demonstration_ids]
        assert set(shown.split) == {"train"}
        assert (prompt.target, len(shown)) == (query.target, 3)
        clean = TEMPLATE.render("Name it.", zip(shown.input, shown.target, strict=True), query.input)
        assert (prompt.text == clean) == (prompt.kind == "clean" or shown.target.nunique() == 1)
    first = prompts[prompts.kind == "clean"].query_id[:4]
    assert first.nunique() == 4  # every query once before any is used again
    pd.testing.assert_frame_equal(prompts, build_prompts(frame, "things", plan, TEMPLATE, seed=0))
    assert build_prompts(frame, "things", plan, TEMPLATE, seed=1).text.tolist() != prompts.text.tolist()


def test_prompts_without_instruction():
    prompts = build_prompts(
        task(), "things", PromptPlan(2, 1, 1, include_instruction=False), TEMPLATE, seed=0
    )
    assert all(text.startswith("Input: train thing") for text in prompts.text)


def test_task_without_queries_is_refused():
    with pytest.raises(UserError, match="task 'things' has no validation examples to query"):
        build_prompts(task(queries=0), "things", PromptPlan(2, 1, 1), TEMPLATE, seed=0)


@pytest.mark.parametrize("choices", [False, True])
def test_questions_put_the_target_first(choices, tmp_path):
    prompts = build_prompts(task(choices), "things", PromptPlan(2, 5, 0), TEMPLATE, seed=0)
    prompts.to_parquet(tmp_path / "prompts.parquet")  # lists come back as arrays
    for table in (prompts, pd.read_parquet(tmp_path / "prompts.parquet")):
        for question, row in zip(encode_questions(tokenizer(), table), table.itertuples(), strict=True):
            texts = [tokenizer().decode(ids) for ids in question.continuations]
            assert tokenizer().decode(question.context) == row.text
            assert texts[0] == f" {row.target}"
            assert sorted(texts) == ([" cold", " hot", " small"] if choices else texts)


# ---------------------------------------------------------------- interventions on a task

SETTINGS = {"layers": [2, 0], "examples": 3, "shots": 2}


def test_table_of_interventions():
    """After the last layer, a long vector along the output weights of the target's token brings it about."""
    model, frame = shared("llama"), task(target="cold")
    (token,) = encode_pairs(tokenizer(), ["Output:"], [" cold"])[0][1]
    theta = 100 * model.lm_head.weight[token].detach()
    table = intervention_table(
        PrefixEngine(model), tokenizer(), frame, "things", theta, TEMPLATE, SETTINGS, 0, 10**6
    )
    assert table.columns.tolist() == ["set", "split", "layer", "condition", "base", "accuracy", "n"]
    assert (set(table["set"]), set(table.n)) == ({"things"}, {3})
    test = table[table.split == "test"]
    accuracy = {(row.layer, row.condition, row.base): row.accuracy for row in test.itertuples()}
    assert set(accuracy) == {(-1, "none", "zero-shot"), (-1, "few-shot", "few-shot")} | {
        (layer, kind, base)
        for layer in (0, 2)
        for base, own in (("zero-shot", "add"), ("few-shot", "remove"))
        for kind in (own, "random")
    }
    validation = table[table.split == "validation"].set_index(["layer", "condition", "base"]).accuracy
    assert set(validation.index) == {key for key in accuracy if key[1] != "random"}
    assert validation[2, "add", "zero-shot"] == 1.0
    assert accuracy[2, "add", "zero-shot"] == 1.0
    assert accuracy[-1, "none", "zero-shot"] == 0.0
    assert accuracy[2, "remove", "few-shot"] == 0.0
    prompt = tokenizer()(TEMPLATE.render("Name it.", [], "test thing 0")).input_ids
    with reference.shifted_residual(model, 0, len(prompt) - 1, theta):
        hit = reference.continuation(model, prompt, [token])[1]
    one = intervention_table(
        PrefixEngine(model),
        tokenizer(),
        frame,
        "things",
        theta,
        TEMPLATE,
        {**SETTINGS, "examples": 1},
        0,
        10**6,
    )
    first = one[(one.split == "test") & (one.layer == 0)].set_index("condition").accuracy
    assert first["add"] == float(hit)


@pytest.mark.parametrize(("cold", "length"), [("validation", 20), ("test", 15)])
def test_validation_rows_equal_one_forward_pass_per_example_and_choose_the_layer(cold, length):
    """A vector along the weights of "cold" brings it about after some layers. Where only test examples have
    that answer, all layers are equal on validation examples, and the first is chosen.
    """
    model, engine = shared("llama"), PrefixEngine(shared("llama"))
    frame, settings = task(queries=6), {"layers": [0, 2, 1], "examples": 5, "shots": 2}
    tokens = {name: encode_pairs(tokenizer(), ["Output:"], [f" {name}"])[0][1] for name in ("cold", "hot")}
    theta = length * model.lm_head.weight[tokens["cold"][0]].detach()
    frame["target"] = ["cold" if split == cold else "hot" for split in frame.split]
    table = intervention_table(engine, tokenizer(), frame, "things", theta, TEMPLATE, settings, 0, 10**6)
    expected = {}
    for layer in settings["layers"]:
        right = []
        for row in frame[frame.split == "validation"].iloc[:5].itertuples():
            prompt = tokenizer()(TEMPLATE.render(row.instruction, [], row.input)).input_ids
            with reference.shifted_residual(model, layer, len(prompt) - 1, theta):
                right.append(reference.continuation(model, prompt, tokens[row.target])[1])
        expected[layer] = np.mean(right)
    added = table[table.condition == "add"].set_index(["split", "layer"]).accuracy
    assert added["validation"].to_dict() == expected
    assert added[cold].nunique() == 2
    assert best_layer(table) == max(expected, key=expected.get)  # of equal ones the first
    assert best_layer(table) != added["test"].idxmax()


def test_a_set_without_validation_examples_is_refused():
    frame = task()
    with pytest.raises(UserError, match=r"^task 'things' has no validation examples to intervene on: add"):
        intervention_table(
            PrefixEngine(shared("llama")), tokenizer(), frame[frame.split != "validation"], "things",
            torch.ones(48), TEMPLATE, SETTINGS, 0, 10**6,
        )  # fmt: skip


def test_the_layer_is_the_first_of_the_best_on_validation_examples():
    rows = [
        ("a", "validation", "add", 3, 0.5), ("a", "validation", "add", 1, 0.7), ("a", "test", "add", 3, 1.0),
        ("a", "validation", "add", 0, 0.7), ("a", "validation", "remove", 3, 0.1),
        ("a", "validation", "remove", 1, 0.1), ("b", "validation", "add", 2, 0.0),
        ("b", "validation", "none", -1, 0.9),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["set", "split", "condition", "layer", "accuracy"])
    assert chosen_layers(table).to_dict() == {"a": 1, "b": 2}
    assert chosen_layers(table, "remove").to_dict() == {"a": 3}
    assert chosen_layers(table[table.condition == "none"]).empty
    with pytest.raises(UserError, match="condition 'add' has no accuracy on validation examples"):
        chosen_layers(table[table.split == "test"])


def test_table_covers_all_layers_unless_told_and_refuses_others():
    engine, theta = PrefixEngine(shared("llama")), torch.ones(48)
    every = intervention_table(
        engine, tokenizer(), task(), "things", theta, TEMPLATE, {**SETTINGS, "layers": None}, 0, 10**6
    )
    assert sorted(every.layer.unique()) == [-1, 0, 1, 2]
    with pytest.raises(UserError, match="layer 9 does not exist: the model has 3 layers"):
        intervention_table(
            engine, tokenizer(), task(), "things", theta, TEMPLATE, {**SETTINGS, "layers": [9]}, 0, 100
        )
