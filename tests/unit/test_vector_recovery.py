"""The table, the figure and the sentences of what vectors give back, from made-up accuracies."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anamnesis.core.errors import UserError
from anamnesis.figures.recovered_accuracy import vector_recovery
from anamnesis.figures.style import CONDITION_COLOURS, WIDTH, save_figure
from anamnesis.report.builder import build_report
from anamnesis.report.given_back import recovery_section, recovery_sentences
from anamnesis.stats.summary import BASELINE
from anamnesis.stats.vector_recovery import MEAN, chain_accuracies, recovery_frame, recovery_gain

SETS, METHODS = ("antonym", "news_topic"), ("inclora", "inclora-ivg")
GAINS = {"inclora": (0.1, 0.3, 0.2), "inclora-ivg": (-0.1, 0.1, 0.0)}  # of the chains, on both sets


def interventions() -> pd.DataFrame:
    """Layer 1 is chosen on validation examples, where test examples would choose layer 2. The last set is of
    no suite.
    """
    rows = []
    for name in (*SETS, "elsewhere"):
        rows += [
            (name, "test", -1, "none", "zero-shot", 0.7),
            (name, "test", -1, "few-shot", "few-shot", 0.9),
        ]
        for layer, (added, chosen) in enumerate([(0.1, 0.2), (0.8, 0.9), (1.0, 0.4)]):
            rows += [
                (name, "validation", layer, "add", "zero-shot", chosen),
                (name, "test", layer, "add", "zero-shot", added),
                (name, "test", layer, "random", "zero-shot", 0.65),
                (name, "test", layer, "remove", "few-shot", 0.1),
                (name, "test", layer, "random", "few-shot", 0.2),
            ]
    frame = pd.DataFrame(rows, columns=["set", "split", "layer", "condition", "base", "accuracy"])
    return frame.assign(n=20)


def recovered(methods=METHODS, seeds=(0, 1, 2), sets=SETS) -> pd.DataFrame:
    """Zero-shot accuracy 0.4 after training on the first set and 0.5 on the other; the random vector takes
    0.1 away.
    """
    rows = []
    for method in methods:
        for seed in seeds:
            for k, name in enumerate(sets):
                after, gain = 0.4 + 0.1 * k, GAINS.get(method, GAINS["inclora"])[seed]
                values = {"none": after, "add": after + gain, "random": after - 0.1, "few-shot": 0.6}
                for condition, accuracy in values.items():
                    layer = 1 if condition in ("add", "random") else -1
                    rows.append((method, 1, seed, name, condition, layer, accuracy, 20))
    columns = ["method", "order", "seed", "set", "condition", "layer", "accuracy", "n"]
    return pd.DataFrame(rows, columns=columns)


def frame(**choices) -> pd.DataFrame:
    return recovery_frame(recovered(**choices), interventions())


def test_before_training_comes_from_test_examples_at_the_layer_chosen_on_validation_examples():
    before = frame()[frame()["method"] == BASELINE]
    assert set(before["set"]) == set(SETS)
    assert before["order"].isna().all()
    found = before[before["set"] == "antonym"].set_index("condition")
    assert found["accuracy"].to_dict() == {"none": 0.7, "few-shot": 0.9, "add": 0.8, "random": 0.65}
    assert found["layer"].to_dict() == {"none": -1, "few-shot": -1, "add": 1, "random": 1}


def test_the_mean_of_the_sets_is_taken_within_each_chain():
    wide = chain_accuracies(frame())
    assert list(wide["set"].unique()) == [*SETS, MEAN]
    mean = wide[(wide["set"] == MEAN) & (wide["method"] == "inclora")]
    assert mean["add"].to_list() == pytest.approx([0.55, 0.75, 0.65])
    assert list(chain_accuracies(frame(sets=SETS[:1]))["set"].unique()) == ["antonym"]


def test_gains_and_their_intervals_are_those_of_paired_differences():
    gains = recovery_gain(frame(), 0.9).set_index(["method", "set"])
    assert list(gains.index) == [(m, s) for m in METHODS for s in (*SETS, MEAN)]
    row = gains.loc["inclora", MEAN]
    assert row[["before", "after", "added", "random"]].to_list() == pytest.approx([0.7, 0.45, 0.65, 0.35])
    assert (row["lost"], row["gain"], row["random_gain"], row["n"]) == pytest.approx((0.25, 0.2, -0.1, 3))
    assert (row["before_few_shot"], row["after_few_shot"]) == pytest.approx((0.9, 0.6))
    expected = stats.ttest_1samp(GAINS["inclora"], 0).confidence_interval(0.9)
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((expected.low, expected.high))
    assert (row["interval"], row["confidence"]) == ("t", 0.9)
    assert math.isnan(row["random_gain_low"])  # all chains alike
    assert gains.loc["inclora-ivg", "antonym"]["gain"] == pytest.approx(0.0)


def test_the_figure_shows_means_chains_and_intervals():
    figure = vector_recovery(frame())
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert (drawn.x0, drawn.y0) >= (-0.01, -0.01)
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01
    axes = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(axes) == ["antonym", "news topic", MEAN]
    assert [label.get_text() for label in axes["antonym"].get_yticklabels()] == [BASELINE, *METHODS]
    blue = [line for line in axes["antonym"].get_lines() if line.get_color() == CONDITION_COLOURS["add"]]
    dots = [line.get_xdata()[0] for line in blue if line.get_marker() == "o"]
    assert dots == pytest.approx([80, 60, 40])
    (first, _) = (line.get_xdata() for line in blue if line.get_marker() != "o")
    gain = recovery_gain(frame()).iloc[0]
    assert first == pytest.approx([100 * (0.4 + gain["gain_low"]), 100 * (0.4 + gain["gain_high"])])
    circles = np.concatenate([c.get_offsets()[:, 0] for c in axes["antonym"].collections])
    assert sorted(circles)[-3:] == pytest.approx([50, 60, 70])
    words = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert "zero-shot before training" in words


@pytest.mark.parametrize("sets", [SETS[:1], SETS, tuple(f"a_long_name_of_set_{k}" for k in range(6))])
def test_titles_and_key_do_not_overlap(sets):
    renamed = interventions().replace({"set": dict(zip((*SETS, "elsewhere"), sets, strict=False))})
    more = [renamed.assign(set=name) for name in sets[3:]] if len(sets) > 3 else []
    more = [part.drop_duplicates(["split", "layer", "condition", "base"]) for part in more]
    figure = vector_recovery(recovery_frame(recovered(sets=sets), pd.concat([renamed, *more])))
    figure.canvas.draw()
    titles = [axes._left_title for axes in figure.axes if axes.get_visible()]
    boxes = [part.get_window_extent() for part in [*titles, *figure.findobj(matplotlib.legend.Legend)]]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_the_same_files_every_time_and_from_their_csv(tmp_path):
    data = frame()
    first = save_figure(vector_recovery(data), data, tmp_path / "a" / "figure")
    again = pd.read_csv(first[2])
    second = save_figure(vector_recovery(again), again, tmp_path / "b" / "figure")
    for one, two in zip(first[:2], second[:2], strict=True):  # whole numbers are read back with a point
        assert one.read_bytes() == two.read_bytes()


def test_bad_frames_are_refused():
    with pytest.raises(UserError, match="table of accuracy with vectors is empty"):
        vector_recovery(frame().iloc[:0])
    with pytest.raises(UserError, match="no column 'condition'"):
        vector_recovery(frame().drop(columns="condition"))


def test_sentences_hold_the_numbers_and_judge_by_the_interval():
    said = [text.replace("\u00a0", " ") for text in recovery_sentences(recovery_gain(frame()))]
    assert said[0] == (
        "inclora, on average over 2 sets: zero-shot accuracy was 70.0 % before training and is 45.0 % after "
        "the last stage (−25.0 points)."
    )
    assert said[1].startswith("The vector of the model before training changes that by +20.0 points (95 % ")
    assert said[1].endswith("n = 3 chains): the interval contains zero, so no effect is shown.")
    assert said[2] == (
        "A random vector of equal norm changes it by −10.0 points (n = 3 chains, no interval)."
    )
    narrow = [text.replace("\u00a0", " ") for text in recovery_sentences(recovery_gain(frame(), 0.5))]
    assert narrow[1].endswith("the interval excludes zero, which is weak evidence from 3 chains.")
    assert narrow[4].endswith("so no effect is shown.")
    one = recovery_sentences(recovery_gain(frame(sets=SETS[:1], seeds=(0,))))
    assert one[0].startswith("inclora, on antonym: ")
    assert "+10.0\u00a0points (n\u00a0=\u00a01 chain, no interval)" in one[1]


def test_many_methods_get_sentences_together():
    names = ["inclora", "inclora-ivg", "ewc", "lwf", "olora"]
    said = [t.replace("\u00a0", " ") for t in recovery_sentences(recovery_gain(frame(methods=names), 0.5))]
    assert said[0].startswith(
        "On average over 2 sets, zero-shot accuracy was 70.0 % before training and lies"
    )
    assert "raises it for 4 of 5 methods, for 4 of them by an interval above zero" in said[1]
    assert "by +0.0 points to +20.0 points; a random vector of equal norm by −10.0" in said[1]


def test_the_section_has_the_table_and_the_figure(tmp_path):
    data = frame()
    png = save_figure(vector_recovery(data), data, tmp_path / "figures" / "vector_recovery")[1]
    section = recovery_section(recovery_gain(data), png)
    (table,) = section.tables
    assert len(table.rows) == 6
    assert [str(cell).replace("\u00a0", " ") for cell in table.rows[2][:6]] == [
        "inclora", MEAN, "70.0 %", "45.0 %", "65.0 %", "35.0 %",
    ]  # fmt: skip
    assert table.rows[2][7].startswith("+20.0 [")
    page = build_report([section], tmp_path / "report.html", "t").read_text()
    assert "Do the vectors give anything back?" in page
    assert "./figures/vector_recovery.csv" in page
