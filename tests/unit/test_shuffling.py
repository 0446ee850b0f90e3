"""Prompts with shuffled labels: what a task with few labels gives, and what is done where nothing changes."""

from __future__ import annotations

import logging
import runpy
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.analyses.within_stage.measure import asked
from anamnesis.core.artifacts import write_parquet
from anamnesis.core.errors import UserError
from anamnesis.data import prompts as prompts_module
from anamnesis.data.prompts import (
    Template,
    draw_demonstrations,
    draw_varied_demonstrations,
    kept_labels,
    label_of,
    shuffle_labels,
)
from anamnesis.study import study_tasks
from anamnesis.vectors.icl import PromptPlan, build_prompts, shuffled_prompts
from runs import ROOT

TEMPLATE = Template()
MODEL = {"dtype": "float32", "device": "cpu", "gpus": 1}


def task(answers: list[str], queries: int = 8) -> pd.DataFrame:
    """A task whose training examples have these answers."""
    rows = [("train", f"train-{i:04d}", f"thing {i}", y) for i, y in enumerate(answers)]
    for split in ("validation", "test"):
        rows += [
            (split, f"{split}-{i:04d}", f"{split} {i}", answers[i % len(answers)]) for i in range(queries)
        ]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "input", "target"])
    return frame.assign(instruction="Say it.", choices=None, label=None)


def mostly(label: str, count: int, *others: str) -> list[str]:
    return [label] * (count - len(others)) + list(others)


def clean_texts(frame: pd.DataFrame, prompts: pd.DataFrame) -> list[str]:
    rows = frame.set_index("example_id")
    return [
        TEMPLATE.render("Say it.", rows.loc[p.demonstration_ids, ["input", "target"]].values.tolist(), query)
        for p, query in zip(prompts.itertuples(), rows.input[prompts.query_id], strict=True)
    ]


# ---------------------------------------------------------------- the labels of one prompt


@pytest.mark.parametrize(
    "answers",
    [
        ["no", "no", "no", "no", "yes"],
        ["no", "no", "yes", "yes", "yes"],
        ["no", "no", "yes", "yes"],
        ["a", "b", "c", "d", "e"],
        ["a", "a", "b", "c"],
        ["a", "a", "b", "b", "c", "c"],
        ["a", "b"],
        ["a", "a"],
        ["a"],
        [],
    ],
)
def test_as_few_demonstrations_keep_their_label_as_can_be(answers):
    shown = [(f"x{i}", y) for i, y in enumerate(answers)]
    least = max(0, 2 * max(Counter(answers).values(), default=0) - len(answers))
    results = set()
    for seed in range(40):
        shuffled = shuffle_labels(np.random.default_rng(seed), shown)
        assert [x for x, _ in shuffled] == [x for x, _ in shown]
        assert sorted(y for _, y in shuffled) == sorted(answers)
        assert sum(a == b for a, b in zip(shuffled, shown, strict=True)) == least
        results.add(tuple(shuffled))
    if len(set(answers)) > 2 or least not in (0, len(answers)):
        assert len(results) > 1  # where there are several such orders, one is drawn


def test_demonstrations_are_drawn_again_until_two_labels_occur():
    pool = [(f"x{i}", y) for i, y in enumerate(mostly("no", 100, "yes", "yes", "yes", "yes", "yes"))]
    for seed in range(40):
        drawn = draw_varied_demonstrations(np.random.default_rng(seed), pool, 5, "x99", "answers")
        assert {y for _, y in drawn} == {"no", "yes"}
        assert len(set(drawn)) == 5
        assert ("x99", "yes") not in drawn
    alone = pool[:94] + pool[99:]  # the one other label is that of the query itself
    drawn = draw_varied_demonstrations(np.random.default_rng(0), alone, 5, "x99", "answers")
    assert {y for _, y in drawn} == {"no"}


@pytest.mark.parametrize(
    ("shots", "answers"), [(1, ["no", "yes", "no"]), (3, ["no"] * 5), (2, ["no", "no", "no", "yes"])]
)
def test_nothing_is_drawn_again_where_it_cannot_help(shots, answers):
    pool = [(f"x{i}", y) for i, y in enumerate(answers)]
    varied, once = np.random.default_rng(1), np.random.default_rng(1)
    avoid = "x3" if shots == 2 else "none"
    drawn = draw_varied_demonstrations(varied, pool, shots, avoid, "answers")
    assert drawn == draw_demonstrations(once, pool, shots, avoid, "answers")
    assert varied.random() == once.random()


def test_two_demonstrations_are_drawn_again_as_often_as_it_takes(monkeypatch):
    """Each redraw is one more draw from the same generator; after the last one they stay as they are."""
    pool = [(f"x{i}", "no") for i in range(30)] + [("y", "yes")]
    for redraws in (0, 3, 100):
        monkeypatch.setattr(prompts_module, "REDRAWS", redraws)
        rng = np.random.default_rng(5)
        draws = [draw_demonstrations(rng, pool, 2, "none", "answers") for _ in range(1 + redraws)]
        expected = next((d for d in draws if len({y for _, y in d}) > 1), draws[-1])
        found = draw_varied_demonstrations(np.random.default_rng(5), pool, 2, "none", "answers")
        assert found == expected
        assert (len({y for _, y in found}) > 1) == (redraws == 100)


def test_answers_move_on_by_the_longest_group_of_equal_ones():
    class InOrder:
        def permutation(self, count):
            return [4, 0, 1, 2, 3]

    # in the drawn order: c a a b b; c is one, a and b are two: each answer moves on by two places
    shuffled = shuffle_labels(InOrder(), list(zip("01234", "aabbc", strict=True)))
    assert shuffled == list(zip("01234", "bbcaa", strict=True))


def test_the_share_of_kept_labels_is_counted_place_by_place():
    shown = [("x0", "no"), ("x1", "yes"), ("x2", "no"), ("x3", "yes")]
    shuffled = [("x0", "yes"), ("x1", "no"), ("x2", "no"), ("x3", "yes")]
    assert kept_labels(shown, shuffled) == 0.5
    assert kept_labels([], []) == 1.0
    with pytest.raises(ValueError, match="shorter"):
        kept_labels(shown, shuffled[:3])


# ---------------------------------------------------------------- the prompts of a task

SKEWED = {
    "95 per cent no": mostly("no", 100, *["yes"] * 5),
    "one of sixty": mostly("negative", 60, "positive"),
    "three labels": mostly("neutral", 80, "good", "good", "bad", "bad"),
}


@pytest.mark.parametrize("name", SKEWED)
def test_a_task_of_nearly_one_answer_still_has_shuffled_prompts(name, caplog):
    frame = task(SKEWED[name])
    prompts = build_prompts(frame, name, PromptPlan(5, 4, 40), TEMPLATE, seed=0)
    assert not prompts.unshuffled.any()
    shuffled = prompts[prompts.kind == "shuffled"]
    assert (prompts.kept[prompts.kind == "clean"] == 1).all()
    assert 0.2 <= shuffled.kept.min() <= shuffled.kept.mean() <= 0.6  # of five, two or more change places
    same = np.array(clean_texts(frame, prompts)) == prompts.text
    assert (same == (prompts.kind == "clean")).all()
    assert [record.getMessage() for record in caplog.records] == [
        f"task '{name}': {100 * shuffled.kept.mean():.0f} % of the demonstrations in label-shuffled prompts "
        "keep their label, as most have the same: causal effects are measured on prompts that still show the "
        "task"
    ]
    pd.testing.assert_frame_equal(shuffled_prompts(prompts, name), prompts[prompts.kind == "shuffled"])


def test_prompts_that_stay_as_they_are_are_counted_and_left_out(caplog, monkeypatch):
    """Without drawing again, as where the other label is too rare to be drawn."""
    monkeypatch.setattr("anamnesis.data.prompts.REDRAWS", 0)
    frame = task(SKEWED["95 per cent no"])
    with caplog.at_level(logging.WARNING, "anamnesis"):
        prompts = build_prompts(frame, "answers", PromptPlan(5, 4, 40), TEMPLATE, seed=0)
    same = np.array(clean_texts(frame, prompts)) == prompts.text
    count = int((same & (prompts.kind == "shuffled")).sum())
    assert 20 < count < 40
    assert (prompts.unshuffled == (same & (prompts.kind == "shuffled"))).all()
    assert f"task 'answers': {count} of 40 label-shuffled prompts ({100 * count / 40:.0f} %)" in caplog.text
    assert len(shuffled_prompts(prompts, "answers")) == 40 - count


@pytest.mark.parametrize(("answers", "shots"), [(["no"] * 20, 5), (["no", "yes"] * 10, 1)])
def test_a_task_whose_prompts_all_stay_is_refused_in_one_line(answers, shots):
    prompts = build_prompts(task(answers), "answers", PromptPlan(shots, 2, 6), TEMPLATE, seed=0)
    with pytest.raises(UserError, match=r"task 'answers': all 6 .*vectors.shots .*vectors.tasks") as error:
        shuffled_prompts(prompts, "answers")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("answers", [["no", "yes"] * 10, ["a", "b", "c", "d"] * 5])
def test_a_task_of_several_labels_keeps_few_of_them(answers, caplog):
    prompts = build_prompts(task(answers), "answers", PromptPlan(4, 4, 40), TEMPLATE, seed=0)
    shuffled = prompts[prompts.kind == "shuffled"]
    assert not shuffled.unshuffled.any()
    assert shuffled.kept.mean() < 0.3
    assert not caplog.records


LOOSE = ["no", "No", "NO", "no ", "n o"]


def test_labels_that_differ_in_case_and_blanks_only_are_one():
    """Changing places among themselves, they would still show the task."""
    shown = [("a", "no"), ("b", "No"), ("c", "yes"), ("d", "Yes"), ("e", "no  way"), ("f", "No way")]
    for seed in range(20):
        shuffled = shuffle_labels(np.random.default_rng(seed), shown)
        assert kept_labels(shown, shuffled) == 0
        assert sorted(y for _, y in shuffled) == sorted(y for _, y in shown)
    assert [label_of(text) for text in LOOSE] == ["no", "no", "no", "no", "n o"]
    assert label_of("STRASSE") == label_of("Straße")
    assert len({label_of(text) for text in ("0", "-0", "é", "e", "là", "la")}) == 6


def test_a_task_of_one_label_in_several_spellings_is_refused(caplog):
    frame = task(["no", "No", "NO"] * 6)
    prompts = build_prompts(frame, "answers", PromptPlan(5, 2, 6), TEMPLATE, seed=0)
    assert prompts.unshuffled.sum() == 6
    assert "6 of 6 label-shuffled prompts (100 %)" in caplog.text
    with pytest.raises(UserError, match="task 'answers': all 6 label-shuffled prompts"):
        shuffled_prompts(prompts, "answers")
    pool = list(zip(frame.input, frame.target, strict=True))
    rng, once = np.random.default_rng(0), np.random.default_rng(0)
    assert draw_varied_demonstrations(rng, pool, 5, "", "t") == draw_demonstrations(once, pool, 5, "", "t")


# ---------------------------------------------------------------- where effects are averaged


def test_the_jobs_of_a_sweep_record_and_leave_out_unshuffled_prompts(tmp_path, snapshot, monkeypatch):
    monkeypatch.setattr("anamnesis.data.prompts.REDRAWS", 0)
    frame = task(mostly("cold", 30, *["hot"] * 6), queries=6)
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("task", "prompts", "effects")}
    write_parquet(paths["task"], frame)
    mean, vectors = str(tmp_path / "mean.safetensors"), {"shots": 2, "activation_prompts": 2}
    vectors |= {"effect_prompts": 6, "include_instruction": True}
    average, sweep = (
        runpy.run_path(str(ROOT / f"workflow/scripts/{name}.py"))["main"]
        for name in ("average_activations", "sweep_heads")
    )
    words = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n", "chat_template": False}
    first = average(
        str(snapshot), paths["task"], "answers", MODEL, vectors, words, 512, 0, 1024, paths["prompts"], mean
    )
    prompts = pd.read_parquet(paths["prompts"])
    kept = prompts[(prompts.kind == "shuffled") & ~prompts.unshuffled]
    assert 0 < len(kept) < 6
    assert first["unshuffled"] == 6 - len(kept)
    assert first["labels_kept"] == prompts.kept[prompts.kind == "shuffled"].mean()
    second = sweep(
        str(snapshot), paths["prompts"], mean, "answers", MODEL, "full", 1024, 0, 1, paths["effects"]
    )
    assert (second["prompts"], second["unshuffled"]) == (len(kept), 6 - len(kept))
    assert set(pd.read_parquet(paths["effects"]).prompt_id) == set(kept.prompt_id)
    write_parquet(paths["prompts"], prompts.assign(unshuffled=prompts.kind == "shuffled"))
    with pytest.raises(UserError, match="task 'answers': all 6"):
        sweep(str(snapshot), paths["prompts"], mean, "answers", MODEL, "full", 1024, 0, 1, paths["effects"])


def test_effect_maps_within_a_stage_leave_them_out_too(monkeypatch):
    monkeypatch.setattr("anamnesis.data.prompts.REDRAWS", 0)
    frame = task(mostly("cold", 30, *["hot"] * 6), queries=6)
    prompts = build_prompts(frame, "answers", PromptPlan(2, 2, 6), TEMPLATE, seed=0)
    kept = (~prompts.unshuffled & (prompts.kind == "shuffled")).sum()
    questions = asked(tiny_models.tokenizer(), frame, "answers", prompts, TEMPLATE, 2, 6, 2, 0)
    assert len(questions.shuffled) == kept < 6


def test_a_study_of_pairs_with_one_answer_is_refused():
    pairs = [(f"thing {i}", "cold") for i in range(12)]
    model = tiny_models.shared("llama")
    with torch.no_grad(), pytest.raises(UserError, match="all 4 label-shuffled prompts equal the clean ones"):
        study_tasks(model, tiny_models.tokenizer(), pairs, shots=3, heads=2, effect_prompts=4)
