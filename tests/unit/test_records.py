"""Evaluation records: what is asked, how it is scored, and that every number can be traced to its prompt."""

import hashlib
from dataclasses import replace

import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.core.names import GENERATED
from anamnesis.data.builtin import builtin_task
from anamnesis.data.prompts import Template
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.items import build_items
from anamnesis.evaluation.records import COLUMNS, EvaluationSet, Evaluator

SIZES = {"train": 8, "validation": 2, "test": 6}


def evaluator(shots: int = 2, forms=("instruction", "knowledge")) -> Evaluator:
    engine = PrefixEngine(tiny_models.shared("llama"))
    return Evaluator(engine, tiny_models.tokenizer(), Template(), shots, forms, 512, seed=0)


def asked_of(name: str, max_new_tokens: int = 4, role: str = "held_out") -> EvaluationSet:
    return EvaluationSet(name, role, builtin_task(name, 0, SIZES), max_new_tokens)


@pytest.fixture(scope="module")
def choice_records() -> pd.DataFrame:
    return evaluator().evaluate([asked_of("capital_choice")])


def test_every_test_example_is_answered_in_every_form_and_number_of_shots(choice_records):
    assert list(choice_records.columns) == COLUMNS
    counts = choice_records.groupby(["form", "shots"]).example_id.nunique()
    assert counts.to_dict() == {(f, s): 6 for f in ("instruction", "knowledge") for s in (0, 2)}


def test_the_prediction_is_the_likeliest_option_of_a_plain_forward(choice_records):
    """Each option scored by a forward pass of its own, for both forms, few-shot."""
    task = builtin_task("capital_choice", 0, SIZES)
    tokenizer, model = tiny_models.tokenizer(), tiny_models.shared("llama")
    for form in ("instruction", "knowledge"):
        rows = choice_records[(choice_records.form == form) & (choice_records.shots == 2)]
        for item, row in zip(
            build_items(task, "capital_choice", form, 2, Template(), 0), rows.itertuples(), strict=True
        ):
            scores = []
            for choice in item.choices:
                context, whole = (tokenizer(t).input_ids for t in (item.prompt, f"{item.prompt} {choice}"))
                with torch.no_grad():
                    logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
                scores.append(sum(float(logits[i - 1, whole[i]]) for i in range(len(context), len(whole))))
            assert row.choice_logprobs == pytest.approx(scores, abs=1e-4)
            assert row.prediction == item.choices[scores.index(max(scores))]
            assert row.score == float(row.prediction == row.target)
            assert row.prompt_sha256 == hashlib.sha256(item.prompt.encode()).hexdigest()


@pytest.mark.parametrize("name", ["capital_choice", "antonym"])
def test_questions_are_shared_out_among_draws_of_demonstrations(name):
    """Each draw's questions are answered as if asked of that draw alone, and stand in the examples' order."""
    one, several = evaluator(), replace(evaluator(), draws=4)
    asked, plain = several.evaluate([asked_of(name)]), one.evaluate([asked_of(name)])
    keys = ["set", "form", "shots", "example_id"]
    assert asked[keys].equals(plain[keys])
    zero = asked.shots == 0
    assert asked[zero].equals(plain[zero])
    task = builtin_task(name, 0, SIZES)
    few = asked[(asked.shots == 2) & (asked.form == "instruction")]
    for k, row in enumerate(few.itertuples()):
        item = build_items(task, name, "instruction", 2, Template(), 0, k % 4)[k]
        assert row.prompt_sha256 == hashlib.sha256(item.prompt.encode()).hexdigest()
    shown = [build_items(task, name, "instruction", 2, Template(), 0, d)[0].prompt for d in range(4)]
    assert len(set(shown)) > 2
    assert (few.prompt_sha256.iloc[[0, 4]].values == plain[~zero].prompt_sha256.iloc[[0, 4]].values).all()


def test_training_tasks_may_be_asked_without_demonstrations_only():
    sets = [asked_of("capital_choice"), asked_of("antonym", role="train_task")]
    whole, less = (replace(evaluator(), few_shot=f).evaluate(sets) for f in ("all", "held_out"))
    assert less.equals(whole[(whole.role == "held_out") | (whole.shots == 0)].reset_index(drop=True))
    assert set(less.shots) == {0, 2}


def test_generation_is_scored_by_exact_match_of_the_first_line():
    task = builtin_task("antonym", 0, SIZES)
    first = evaluator(forms=("instruction",)).evaluate([asked_of("antonym", 5)])
    assert set(first.metric) == {"exact_match"}
    assert (first.score == 0).all()  # a random model
    zero = first[first.shots == 0].set_index("example_id")
    told = task.copy()
    told["target"] = told.example_id.map(lambda i: zero.prediction.get(i, "x") or "x")
    told.loc[told.split != "test", "target"] = task.target
    again = evaluator(forms=("instruction",)).evaluate([EvaluationSet("antonym", "held_out", told, 5)])
    assert (again[again.shots == 0].score == (zero.prediction != "").to_numpy()).all()


def test_sets_evaluated_together_give_the_rows_of_each_alone_in_the_order_asked_for(choice_records):
    """Different answer lengths, a set with options between two without, one with a knowledge form and one
    without, and one without test examples.
    """
    sets = [asked_of("english_spanish", 5), asked_of("capital_choice"), asked_of("antonym", 2, "train_task")]
    empty = EvaluationSet("empty", "held_out", sets[0].frame[sets[0].frame.split != "test"], 3)
    done: list[int] = []
    together = evaluator().evaluate([*sets[:2], empty, sets[2]], done.append)
    single = [evaluator().evaluate([s]) for s in sets]
    expected = pd.concat(single, ignore_index=True)
    plain = [column for column in COLUMNS if not column.startswith("choice_")]
    pd.testing.assert_frame_equal(together[plain], expected[plain])
    assert list(together["set"].unique()) == ["english_spanish", "capital_choice", "antonym"]
    assert set(together.role[together["set"] == "antonym"]) == {"train_task"}
    for found, alone in zip(together.choice_logprobs, expected.choice_logprobs, strict=True):
        assert found == (None if alone is None else pytest.approx(alone, abs=1e-5))
    assert sum(done) == len(together) == 2 * 6 + 4 * 6 + 4 * 6


def test_nothing_to_evaluate_gives_an_empty_table():
    assert list(evaluator().evaluate([]).columns) == COLUMNS
    assert len(evaluator().evaluate([])) == 0


def test_few_shot_prompts_show_the_same_training_examples_to_every_question():
    task = builtin_task("antonym", 0, SIZES)
    items = build_items(task, "antonym", "instruction", 3, Template(), 0)
    heads = {item.prompt.rsplit("Input:", 1)[0] for item in items}
    assert len(heads) == 1
    shown = heads.pop()
    assert shown.count("Output:") == 3
    assert all(f"Input: {x}\n" not in shown for x in task[task.split == "test"].input)


@pytest.mark.parametrize("name", ["capital_choice", "antonym"])
def test_the_knowledge_form_has_no_instruction_and_is_absent_where_a_task_has_none(name):
    task = builtin_task(name, 0, SIZES)
    items = build_items(task, name, "knowledge", 2, Template(), 0)
    assert len(items) == SIZES["test"]
    assert all(task.instruction.iloc[0] not in item.prompt for item in items)
    assert all(item.target in item.choices for item in items)
    none = builtin_task("english_spanish", 0, SIZES)
    assert build_items(none, "english_spanish", "knowledge", 0, Template(), 0) == []


def test_a_task_with_written_answers_is_ranked_in_its_knowledge_form_alone():
    table = evaluator().evaluate([asked_of("antonym")])
    kinds = table[["form", "metric", "scorer"]].drop_duplicates()
    assert kinds.to_numpy().tolist() == [
        ["instruction", "exact_match", GENERATED],
        ["knowledge", "accuracy", "sum"],
    ]
    ranked = table[table.form == "knowledge"]
    assert ranked.choice_logprobs.map(len).eq(4).all()
    assert table[table.form == "instruction"].choice_logprobs.isna().all()


def test_more_shots_than_training_examples_are_refused():
    with pytest.raises(UserError, match=r"shots is 9"):
        build_items(builtin_task("antonym", 0, SIZES), "antonym", "instruction", 9, Template(), 0)


def test_generation_stops_at_a_line_break_or_the_end_token():
    tokenizer = tiny_models.tokenizer()
    stop = LineEnd(tokenizer)
    line = tokenizer(" cold\nInput").input_ids
    cut = next(i for i in range(1, len(line) + 1) if stop(line[:i]))
    assert stop.text(line[:cut]) == "cold"
    assert stop([tokenizer.eos_token_id])
    assert stop.text([*tokenizer(" cold").input_ids, tokenizer.eos_token_id]) == "cold"
