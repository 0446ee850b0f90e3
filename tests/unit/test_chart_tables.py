"""What charts show when pointed at: means and intervals against plain calculations."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anamnesis.stats.chart_tables import curve_means, head_intervals, intervention_intervals, task_effects
from anamnesis.stats.intervals import paired_interval, proportion_interval
from anamnesis.stats.summary import curves_frame
from anamnesis.vectors.ranking import rank_heads
from report_chains import both_methods


def effects(seed, prompts=6):
    rng = np.random.default_rng(seed)
    rows = [(f"p{p}", layer, head) for p in range(prompts) for layer in range(2) for head in range(3)]
    frame = pd.DataFrame(rows, columns=["prompt_id", "layer", "head"])
    return frame.assign(effect=rng.normal(0.1, 0.2, len(rows)), log_effect=rng.normal(size=len(rows)))


def test_a_curve_is_the_mean_over_seeds_with_students_interval():
    means = curve_means(curves_frame(both_methods()))
    row = means.query("method == 'inclora' and shots == 5 and stage == 2").iloc[0]
    low, high, how = paired_interval([0.20, 0.16])
    assert how == "t"
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.18, low, high))
    assert (row["chains"], row["questions"]) == (2, 20)
    equal = means.query("method == 'inclora' and shots == 5 and stage == 0").iloc[0]
    assert math.isnan(equal["low"]), "two chains that agree show no spread"
    one = curve_means(curves_frame(both_methods()[:1]))
    assert one["low"].isna().all()


def test_orders_are_not_averaged():
    first, second = both_methods()[:2]
    other = type(second)("inclora", 2, 0, second.frame)
    means = curve_means(curves_frame([first, other]))
    assert set(means["order"]) == {1, 2}
    assert set(means["chains"]) == {1}


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (7, 7), (31, 32)])
def test_the_interval_of_a_proportion_is_wilsons(right, n):
    found = proportion_interval(pd.Series([right / n]), pd.Series([n]), 0.9)
    wanted = stats.binomtest(right, n).proportion_ci(0.9, method="wilson")
    assert [end.iloc[0] for end in found] == pytest.approx([wanted.low, wanted.high], abs=1e-12)


def test_accuracy_without_a_vector_stands_at_every_layer_of_its_set():
    rows = [("x", "test", -1, "none", "zero-shot", 0.5, 20)]
    rows += [
        ("x", split, layer, "add", "zero-shot", 0.75, 20)
        for split in ("test", "validation")
        for layer in (3, 7)
    ]
    frame = pd.DataFrame(rows, columns=["set", "split", "layer", "condition", "base", "accuracy", "n"])
    found = intervention_intervals(frame)
    assert found.groupby("condition")["layer"].apply(list).to_dict() == {"none": [3, 7], "add": [3, 7]}
    assert ((found["low"] < found["accuracy"]) & (found["accuracy"] < found["high"])).all()


@pytest.mark.parametrize(("unit", "column"), [("probability", "effect"), ("log_probability", "log_effect")])
def test_the_mean_over_tasks_is_what_ranks_a_head(unit, column):
    tasks = {"a": effects(1), "b": effects(2, 9)}
    table = task_effects(tasks, unit)
    one = tasks["b"].query("layer == 1 and head == 2")[column]
    row = table.query("task == 'b' and layer == 1 and head == 2").iloc[0]
    low, high, _ = paired_interval(one.to_numpy())
    assert (row["effect"], row["low"], row["high"], row["n"]) == pytest.approx((one.mean(), low, high, 9))
    ranked = rank_heads(tasks, unit, 2).set_index(["layer", "head"])["effect"]
    means = table.groupby(["layer", "head"])["effect"].mean()
    assert means.to_numpy() == pytest.approx(ranked.sort_index().to_numpy())


def test_a_heads_interval_is_about_its_mean_and_missing_without_an_error():
    ranked = rank_heads({"a": effects(1), "b": effects(2)}, "probability", 2)
    found = head_intervals(ranked.assign(standard_error=[math.nan, *ranked["standard_error"][1:]]))
    assert math.isnan(found["low"].iloc[0])
    half = stats.t.ppf(0.975, 10) * ranked["standard_error"][1:]
    assert (found["high"] - found["effect"])[1:].to_numpy() == pytest.approx(half.to_numpy())
