"""What options are ranked by, against a plain forward pass per option; it stands with every number."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.items import build_items
from anamnesis.evaluation.records import EvaluationSet, Evaluator
from anamnesis.evaluation.scorers import SCORERS, option_scores
from anamnesis.stats.forgetting import accuracy_frame, mean_scores

SIZES = {"train": 6, "validation": 2, "test": 5}


def evaluate(sets, **settings) -> pd.DataFrame:
    engine = PrefixEngine(tiny_models.shared("llama"))
    whole = {"shots": 2, "forms": ("instruction",), "batch_tokens": 256, "seed": 0} | settings
    return Evaluator(engine, tiny_models.tokenizer(), Template(), **whole).evaluate(sets)


def plain_scores(prompt: str, choice: str) -> dict[str, float]:
    """Every scorer's value of one option, by its definition."""
    tokenizer = tiny_models.tokenizer()
    before, whole = (tokenizer(text).input_ids for text in (prompt, f"{prompt} {choice}"))
    with torch.no_grad():
        logits = tiny_models.shared("llama")(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    each = [float(logits[i - 1, whole[i]]) for i in range(1, len(whole))]
    answer = sum(each[len(before) - 1 :])
    return {
        "sum": answer,
        "per_token": answer / (len(whole) - len(before)),
        "per_character": answer / len(choice),
        "full_sequence": sum(each) / len(whole),
    }


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_by_its_definition(scorer):
    task = builtin_task("capital_choice", 0, SIZES)
    task = task.assign(choices=task.knowledge_choices, target=task.knowledge_target)
    found = evaluate([EvaluationSet("capitals", "held_out", task, 4)], scorer=scorer)
    assert set(found.scorer) == {scorer}
    for shots in (0, 2):
        items = build_items(task, "capitals", "instruction", shots, Template(), 0)
        for item, row in zip(items, found[found.shots == shots].itertuples(), strict=True):
            expected = [plain_scores(item.prompt, choice) for choice in item.choices]
            assert row.choice_logprobs == pytest.approx([e["sum"] for e in expected], abs=1e-4)
            values = [e[scorer] for e in expected]
            assert row.choice_scores == pytest.approx(values, abs=1e-4)
            assert row.prediction == item.choices[values.index(max(values))]


def test_unknown_scorers_are_refused():
    with pytest.raises(UserError, match="did you mean 'per_token'"):
        option_scores("per-token", None, [], [], [], 1)


def test_metric_and_scorer_stand_with_every_number():
    open_task = builtin_task("plural", 0, SIZES)
    sets = [
        EvaluationSet("numbers", "held_out", open_task, 4, "number"),
        EvaluationSet("topics", "train_task", builtin_task("news_topic", 0, SIZES), 4),
        EvaluationSet("letters", "train_task", builtin_task("capital_choice", 0, SIZES), 4, "exact_string"),
    ]
    rows = evaluate(sets, scorer="per_token")
    frame = accuracy_frame([(0, None, mean_scores([rows], "a run"))])
    named = frame.drop_duplicates("set").set_index("set")[["metric", "scorer"]].to_numpy().tolist()
    assert named == [["number", "generated"], ["accuracy", "per_token"], ["exact_string", "generated"]]
    assert rows.choice_scores[rows.set != "topics"].isna().all()


def test_long_inputs_lose_their_beginning_and_are_counted():
    task = builtin_task("capital_choice", 0, SIZES)
    tokenizer, (long, *_) = tiny_models.tokenizer(), task.index[task.split == "test"]
    prompts = [Template().render(row.instruction, [], row.input) for row in task.itertuples()]
    room = max(len(tokenizer(prompt).input_ids) for prompt in prompts)
    task.loc[long, "input"] = "far " * 80 + task.loc[long, "input"]
    rows = evaluate([EvaluationSet("c", "held_out", task, 4)], max_input_tokens=room)
    assert rows.cut.sum() == 2, "the long example, zero-shot and few-shot"
    assert set(rows.example_id[rows.cut]) == {task.loc[long, "example_id"]}
