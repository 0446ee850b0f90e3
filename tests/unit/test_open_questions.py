"""What the tables, figures and sentences of the open questions say of made-up answers."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from anamnesis.analyses.open_questions import section as said
from anamnesis.analyses.open_questions import tables
from anamnesis.analyses.open_questions.guidance_gain import guidance_gain
from anamnesis.analyses.open_questions.sufficiency_figure import sufficiency
from anamnesis.analyses.open_questions.wordings_figure import wordings
from anamnesis.core.errors import UserError
from anamnesis.figures.style import WIDTH
from anamnesis.report.results import AnalysisResults

CHANCE = (400, 0.95)
TASKS = ("one", "two", "three", "four", "five", "six", "seven")
HELD = ("antonym", "capital_choice")


def worded(sets=HELD, methods=("inclora", "inclora-ivg"), seeds=(0,)) -> pd.DataFrame:
    """Ten examples; right are the first 6 under the own wording, under the others 4 before training, 2 after
    it, and 5 after guided training. "trained" is no held-out set and always wrong.
    """
    rows = []
    for method in methods:
        for seed in seeds:
            for stage, name in ((stage, name) for stage in (0, 3) for name in (*sets, "trained")):
                right = 4 if stage == 0 else 5 if method.endswith("-ivg") else 2
                for shots, wording, example in np.ndindex(2, 4, 10):
                    score = float(example < (right if wording else 6)) if name != "trained" else 0.0
                    role = "train_task" if name == "trained" else "held_out"
                    rows.append((method, 1, seed, stage, name, role, 5 * shots, wording, f"w{wording}",
                                 f"test-{example}", score))  # fmt: skip
    columns = ["method", "order", "seed", "stage", "set", "role", "shots", "wording", "instruction",
               "example_id", "score"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def theta(few: int = 16, sets=("antonym", "past_tense")) -> pd.DataFrame:
    """Of 20 examples right: 1 zero-shot, ``few`` few-shot, 8, 12 and 14 with vectors of 3, 13 and 23 heads;
    with random ones 10, of every second draw.
    """
    rights = {("zero-shot", 0): 1, ("few-shot", 0): few, ("theta", 0): 8, ("theta", 10): 12,
              ("theta", 20): 14, ("random", 10): 10, ("random", 20): 10}  # fmt: skip
    rows = [
        (name, condition, more, 3 + more if condition in ("theta", "random") else 0, 2, example,
         (0.5 if condition == "random" else 1.0) * (example < right))
        for name in sets
        for (condition, more), right in rights.items()
        for example in range(20)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["set", "condition", "more", "heads", "layer", "example", "right"])


def gains(tasks=TASKS, seeds=(0, 1)) -> pd.DataFrame:
    """Guidance gives the more, the shorter the instruction and the fewer the answers."""
    rows = [
        ("inclora", 1, seed, name, 0.2, 0.9 - 0.1 * i + 0.02 * seed, 0.7 - 0.1 * i + 0.02 * seed, 32,
         8.0 + i, 0.1 * (i + 1), 1.0 + i, 160)
        for seed in seeds
        for i, name in enumerate(tasks)
    ]  # fmt: skip
    columns = ["method", "order", "seed", "set", "plain", "guided", "gain", "n", "tokens", "distinct",
               "entropy", "answers"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_the_interval_draws_wordings_and_examples_of_fixed_sets():
    flat = tables.interval([np.full((3, 4), 0.25), np.full((1, 9), 0.75)], *CHANCE)
    assert flat == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    values = np.random.default_rng(0).normal(size=(1, 200))
    found = tables.interval([values], 20_000, 0.95)
    error = values.std() / math.sqrt(200)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.05)
    by_wording = tables.interval([np.repeat(values[:, :20].T, 5, axis=1)], 20_000, 0.9)
    error = values[:, :20].std() / math.sqrt(20)
    assert by_wording["high"] - by_wording["low"] == pytest.approx(2 * 1.645 * error, rel=0.06)


def test_wordings_are_compared_with_a_sets_own_and_with_guidance():
    frame = worded(seeds=(0, 1))
    levels = tables.wording_levels(tables.wording_accuracy(frame)).set_index(
        ["method", "stage", "set", "shots"]
    )
    one = levels.loc[("inclora", 3, "antonym", 0)].iloc[0]
    assert (one.own, one["mean"], one.sd, one.wordings, one.n) == pytest.approx((0.6, 0.2, 0.0, 3, 10))
    found = tables.wording_contrasts(frame, *CHANCE)
    mean = found.set_index(["contrast", "method", "shots"])["mean"].to_dict()
    once = {
        ("wording", ""): -0.2, ("wording", "inclora"): -0.4, ("wording", "inclora-ivg"): -0.1,
        ("guided, own", "inclora"): 0.0, ("guided, others", "inclora"): 0.3,
    }  # fmt: skip
    assert mean == pytest.approx({(*key, shots): value for key, value in once.items() for shots in (0, 5)})
    guided = found[found.contrast == "guided, others"].iloc[0]
    assert (guided.sets, guided.wordings, guided.examples, guided.chains) == (2, 6, 20, 2)
    assert 0 < guided.low < 0.3 < guided.high < 0.6


def test_gaps_of_theta_are_paired_by_example():
    found = tables.sufficiency_contrasts(theta(), *CHANCE).set_index(["contrast", "more", "set"])
    expected = {("gap", 0): 0.4, ("gap", 10): 0.2, ("gap", 20): 0.1, ("added", 10): 0.2, ("added", 20): 0.3,
                ("ranked", 10): 0.35, ("ranked", 20): 0.45}  # fmt: skip
    assert found["mean"].xs("", level="set").to_dict() == pytest.approx(expected)
    assert found["mean"].xs("antonym", level="set").to_dict() == pytest.approx(expected)
    every, alone = found.loc[("gap", 0, "")], found.loc[("gap", 0, "antonym")]
    assert (every.examples, alone.examples) == (40, 20)
    assert alone.low < every.low < 0.4 < every.high < alone.high
    same = tables.sufficiency_contrasts(theta(few=8), *CHANCE).query("contrast == 'gap' and more == 0")
    assert same[["low", "high"]].to_numpy() == pytest.approx(0.0)  # right on the same examples


def test_diversity_of_answers():
    answers = ["a"] * 4 + ["b", "c", "d", "e"]
    task = pd.DataFrame({"split": ["train"] * 8 + ["test"] * 2, "target": [*answers, "x", "y"]})
    one = task.assign(target="same")
    found = tables.answer_diversity({"task": task, "one": one}).set_index("set")
    assert found.loc["task"].to_dict() == {"distinct": 5 / 8, "entropy": 0.5 + 4 * 3 / 8, "answers": 8}
    assert found.loc["one"].to_dict() == {"distinct": 1 / 8, "entropy": 0.0, "answers": 8}


def test_gains_are_paired_by_order_and_seed_and_taken_after_the_last_stage():
    rows = [
        (method, 1, seed, stage, name, "train_task" if name in "ab" else "held_out", form, shots,
         0.1 * stage + 0.2 * seed + (0.3 if method == "inclora-ivg" and name == "a" else 0.0)
         + (9 if form != "instruction" or shots else 0), 32)
        for method in ("inclora", "inclora-ivg", "ewc")
        for seed in ((0, 1) if method != "inclora-ivg" else (1,))
        for stage in (0, 1, 2)
        for name in ("a", "b", "held")
        for form, shots in (("instruction", 0), ("instruction", 5), ("knowledge", 0))
    ]  # fmt: skip
    columns = ["method", "order", "seed", "stage", "set", "role", "form", "shots", "value", "n"]
    curves = pd.DataFrame(rows, columns=columns)
    diversity = pd.DataFrame(
        {"set": ["a", "b"], "distinct": [0.1, 0.9], "entropy": [2.0, 7.0], "answers": 50}
    )
    found = tables.guidance_gains(curves, diversity, {"a": 7, "b": 12}).set_index("set")
    assert found.gain.to_dict() == pytest.approx({"a": 0.3, "b": 0.0})
    assert found.plain.to_list() == pytest.approx([0.4, 0.4])
    assert set(found.seed) == {1}
    assert found.loc["b", ["tokens", "distinct", "entropy"]].to_list() == [12, 0.9, 7.0]
    alone = tables.guidance_gains(curves[curves.method == "ewc"], diversity, {"a": 7, "b": 12})
    assert alone.empty
    assert list(alone.columns) == list(found.reset_index().columns.drop("set").insert(3, "set"))


def test_tokens_are_those_of_the_snapshots_tokenizer(tmp_path):
    texts = ["give the word", "a b c d e"]
    assert tables.counted(tmp_path, texts) == [len(text) / 4 for text in texts]  # a guess
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert tables.counted(tmp_path, [*texts, ""]) == [3, 5, 0]


FIGURES = {
    "gains": lambda: guidance_gain(tables.mean_gains(gains())),
    "wordings": lambda: wordings(tables.wording_accuracy(worded(("antonym", "past_tense", "a_b", "b", "c")))),
    "one wording": lambda: wordings(tables.wording_accuracy(worded().query("wording < 2"))),
    "sufficiency": lambda: sufficiency(tables.sufficiency_levels(theta(), *CHANCE), 0.95),
    "one size": lambda: sufficiency(
        tables.sufficiency_levels(theta(sets=("antonym",)).query("more == 0"), *CHANCE), 0.95
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_fits_the_page_without_overlaps(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert max(drawn.x1 - width, drawn.y1 - height) <= 0.01
    legends = [item.get_window_extent() for item in figure.findobj(matplotlib.legend.Legend)]
    titles = [axes._left_title for axes in figure.axes if axes.get_title(loc="left")]
    boxes = [*(title.get_window_extent() for title in titles), *legends]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_empty_tables_are_refused():
    with pytest.raises(UserError, match="is empty"):
        guidance_gain(tables.mean_gains(gains()).iloc[:0])
    with pytest.raises(UserError, match="no column 'accuracy'"):
        wordings(worded())


def rows_of(findings) -> list[dict]:
    return [dict(zip(findings[1].header, row, strict=True)) for row in findings[1].rows]


def starts(findings) -> list[str]:
    return [sentence.partition(" that ")[0].removeprefix("The data ") for sentence in findings[0]]


def test_wordings_are_answered_by_method_and_shots():
    found = said.wordings(worded(), *CHANCE)
    (zero, *_) = (row for row in rows_of(found) if row["Difference"] == "guided − plain, other wordings")
    assert zero["Points"].startswith("+30.0\u00a0[+")
    assert (zero["Wordings"], zero["Examples"], zero["Sets"]) == (6, 20, 2)
    (own, *_) = (row for row in rows_of(found) if row["Difference"] == "guided − plain, own wording")
    assert own["Points"].startswith("+0.0")
    cost = {
        r["Method"]: r["Points"]
        for r in rows_of(found)
        if r["Difference"].startswith("other") and not r["Shots"]
    }
    assert cost["before training"].startswith("−20.0")
    assert cost["inclora"].startswith("−40.0")
    assert starts(found) == ["support", "support"]
    assert found[0][0].endswith("(inclora, 0-shot: 1 pair of chains).")
    assert starts(said.wordings(worded(HELD[:1], seeds=(0, 1)), *CHANCE))[-1] == "are too few to say"
    assert starts(said.wordings(worded(sets=()), *CHANCE)) == ["are too few to say"]  # a training task alone
    assert starts(said.wordings(worded(methods=("inclora",)), *CHANCE)) == ["are too few to say"]
    worse = worded().assign(score=lambda f: 1 - f.score)
    assert starts(said.wordings(worse, *CHANCE))[-1] == "do not support"


def test_sufficiency_says_what_theta_lacks_and_what_heads_add():
    found = said.sufficiency(theta(), *CHANCE)
    gap = [
        row
        for row in rows_of(found)
        if row["Difference"].startswith("few-shot") and not row["Heads besides S"]
    ]
    assert (gap[0]["Set"], gap[0]["Points"][:5], gap[0]["Examples"]) == ("all", "+40.0", 40)
    assert {row["Set"] for row in gap} == {"all", "antonym", "past_tense"}
    added = {
        row["Difference"]: row["Points"]
        for row in rows_of(found)
        if row["Set"] == "all" and row["Heads besides S"] == 10
    }
    assert added["θ with these heads − θ"].startswith("+20.0")
    assert added["θ with these heads − θ with random heads"].startswith("+35.0")
    assert starts(found) == ["do not support", "support"]
    assert starts(said.sufficiency(theta(few=8).query("more == 0"), *CHANCE)) == ["support"]
    few_heads = theta().query("example < 12")  # 10 more heads: 12 of 12 right in place of 8
    assert starts(said.sufficiency(few_heads, *CHANCE))[1] == "support"
    same = few_heads.assign(right=few_heads.right.where(few_heads.more == 0, 1.0 * (few_heads.example < 8)))
    assert starts(said.sufficiency(same, *CHANCE))[1] == "do not support"
    other = few_heads.assign(right=few_heads.right.where(few_heads.more == 0, 1.0 * (few_heads.example > 3)))
    assert starts(said.sufficiency(other, *CHANCE))[1] == "are too few to say"
    unsure = theta(few=9)
    unsure.loc[(unsure.condition == "theta") & (unsure.example == 0), "right"] = 0.0
    unsure.loc[(unsure.condition == "few-shot") & (unsure.example == 3), "right"] = 0.0
    assert starts(said.sufficiency(unsure, *CHANCE))[0] == "are too few to say"


def test_gains_are_answered_over_tasks():
    found = said.gains(gains(), *CHANCE)
    first = rows_of(found)[0]
    assert (first["Mean gain"], first["Tasks"], first["Pairs of chains"]) == ("+41.0\u00a0points", 7, 2)
    assert first["Spearman's ρ"] == "−1.00\u00a0[−1.00,\u00a0−1.00]"
    assert starts(found) == ["support"]
    assert found[0][0].endswith("(3 of 3 measures).")
    four = said.gains(gains(TASKS[:4]), *CHANCE)
    assert rows_of(four)[0]["Spearman's ρ"] == "−1.00"  # no interval of so few
    assert four[0][0].endswith("(n = 4 tasks, fewer than 6).")
    assert starts(said.gains(gains().assign(gain=lambda f: -f.gain), *CHANCE)) == ["do not support"]


def test_the_section_has_the_questions_that_have_a_figure(tmp_path):
    answers = {"guidance_gain": gains(), "wordings": worded(), "sufficiency": theta()}
    statistics = {"bootstrap_resamples": 50, "confidence": 0.9}
    config = {"statistics": statistics, "suite": {"held_out": [*HELD, "mine"]}}
    figures = {"sufficiency": tmp_path / "sufficiency.png", "summary": tmp_path / "summary.png"}
    (section,) = said.sections(AnalysisResults(answers, figures, config=config))
    assert section.paragraphs[0].endswith("are left out: mine.")
    (picture,) = section.pictures
    assert picture.png == tmp_path / "sufficiency.png"
    assert len(picture.sentences) == 2
    assert picture.tables[0].header[0] == "Set"
    assert picture.links["data (CSV)"] == tmp_path / "sufficiency.csv"
