"""Chart specifications: valid Vega-Lite, with the data of the tables, and none where there are too many."""

import json
import math

import altair
import numpy as np
import pandas as pd
import pytest
import vl_convert

from anamnesis.report import chart_style, charts
from anamnesis.report.head_chart import head_chart
from anamnesis.stats.chart_tables import (
    curve_means,
    head_intervals,
    intervention_intervals,
    level_means,
    stage_effects,
)
from anamnesis.stats.summary import chain_measures, curves_frame
from report_chains import both_methods


def heads(layers=4, number=3):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame([(a, b) for a in range(layers) for b in range(number)], columns=["layer", "head"])
    frame = frame.assign(effect=rng.normal(size=len(frame)), standard_error=0.1, n_prompts=8, n_tasks=2)
    return frame.assign(rank=frame["effect"].rank(ascending=False).astype(int), selected=frame.index < 2)


def stages():
    parts = [
        heads().assign(method=m, stage=s, seed=k)
        for m in ("inclora", "inclora-ivg")
        for s in (0, 1)
        for k in (0, 1)
    ]
    parts = [part.assign(effect=part["effect"] + 0.1 * k) for k, part in enumerate(parts)]
    return pd.concat(parts, ignore_index=True)


def layers():
    rows = [("x", "test", layer, "add", "zero-shot", 0.4, 20) for layer in range(5)]
    rows += [("x", "test", -1, "none", "zero-shot", 0.3, 20)]
    return pd.DataFrame(rows, columns=["set", "split", "layer", "condition", "base", "accuracy", "n"])


def values(spec):
    return spec["datasets"][spec["data"]["name"]]


def all_charts():
    by_task = head_intervals(heads()).assign(task="a", n=8)
    return {
        "summary": charts.summary_chart(level_means(chain_measures(both_methods())), "d"),
        "curves": charts.accuracy_chart(curve_means(curves_frame(both_methods())), "d"),
        "layers": charts.intervention_chart(intervention_intervals(layers()), "d"),
        "tasks": head_chart(head_intervals(heads()), by_task, "task", "d"),
        "stages": head_chart(
            head_intervals(heads()), stage_effects(stages()), "stage", "d", "log_probability"
        ),
    }


@pytest.mark.parametrize("name", all_charts())
def test_a_chart_is_valid_and_can_be_drawn(name):
    spec = all_charts()[name]
    altair.Chart.from_dict(spec, validate=True)
    json.dumps(spec, allow_nan=False)
    assert "<svg" in vl_convert.vegalite_to_svg(spec)
    assert spec["description"] == "d"
    assert "interval and n" in spec["usermeta"]["note"]


def test_the_same_data_give_the_same_specification():
    assert json.dumps(all_charts()) == json.dumps(all_charts())


def test_values_of_a_curve_are_those_of_the_table():
    rows = values(all_charts()["curves"])
    (row,) = [r for r in rows if (r["line"], r["asked"], r["x"]) == ("inclora", "instruction, 5-shot", 2)]
    assert (row["y"], row["value"], row["after"]) == (pytest.approx(18.0), "18.0\u00a0%", "b")
    assert row["n"] == "2 chains, 20 questions each"
    assert row["interval"] == "−7.4 to 43.4"
    assert (row["low"], row["high"]) == (
        0,
        pytest.approx(43.41, abs=0.01),
    )  # the band ends where accuracy does
    one = values(charts.accuracy_chart(curve_means(curves_frame(both_methods()[:1])), "d"))[0]
    assert (one["interval"], one["n"]) == ("none", "1 chain, 20 questions each")
    assert one["low"] == one["y"] == one["high"]


def test_bars_are_means_over_chains_beside_the_start():
    rows = values(all_charts()["summary"])
    (row,) = [r for r in rows if (r["measure"], r["line"]) == (charts.LEVELS["ip"], "inclora")]
    assert (row["y"], row["start"], row["n"]) == (pytest.approx(18.0), pytest.approx(70.0), "2 chains")


def test_effects_after_a_stage_are_means_over_chains_with_their_interval():
    found = stage_effects(stages()).query(
        "method == 'inclora-ivg' and stage == 1 and layer == 2 and head == 1"
    )
    values = stages().query("method == 'inclora-ivg' and stage == 1 and layer == 2 and head == 1")["effect"]
    assert found["effect"].iloc[0] == pytest.approx(values.mean())
    half = 12.706 * values.std() / math.sqrt(2)
    assert (found["high"] - found["effect"]).iloc[0] == pytest.approx(half, rel=1e-4)
    one = stage_effects(stages().query("seed == 0"))
    assert one["low"].notna().all()
    assert set(one["n"]) == {8}


def test_what_is_too_much_for_a_page_is_left_to_the_picture(monkeypatch):
    monkeypatch.setattr(chart_style, "MOST_ROWS", 10)
    found = all_charts()
    assert [name for name, spec in found.items() if spec is None] == ["curves", "tasks", "stages"]
    monkeypatch.setattr(chart_style, "MOST_ROWS", 48)  # effects of as many heads as fit: four rows each
    (select,) = [p["bind"]["name"] for p in all_charts()["stages"]["params"] if p["name"] == "chosen"]
    assert len(select["options"]) == 12
    monkeypatch.setattr(chart_style, "MOST_ROWS", 20)
    (select,) = [p["bind"]["name"] for p in all_charts()["stages"]["params"] if p["name"] == "chosen"]
    assert len(select["options"]) == 5
