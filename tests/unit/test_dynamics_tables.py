"""What the tables of the traces, their figures and their sentences say of made-up traces."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import dynamics_frames as made
import matplotlib
import numpy as np
import pandas as pd
import pytest

from anamnesis.analyses.checkpoints import changes, tables
from anamnesis.analyses.checkpoints import section as said
from anamnesis.analyses.checkpoints.alignment_figure import alignment
from anamnesis.analyses.checkpoints.claims import claims, claims_section
from anamnesis.analyses.checkpoints.conditions_figure import conditions
from anamnesis.analyses.checkpoints.drift_figure import drift
from anamnesis.analyses.checkpoints.effect_maps import effect_maps
from anamnesis.analyses.checkpoints.form_changes import form_changes
from anamnesis.analyses.checkpoints.recovery_figure import recovery
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError
from anamnesis.figures.core_figures import core_figures
from anamnesis.figures.style import WIDTH
from anamnesis.report.results import AnalysisResults
from anamnesis.stats.summary import BASELINE
from registered import ROOT, registered, run_of


@pytest.fixture(scope="module")
def heads() -> pd.DataFrame:
    return tables.heads_by_stage(made.effects(), made.places(), made.initial_heads(), "probability")


def test_frames_are_joined_with_their_places():
    joined = tables.labelled(made.effects(), made.places())
    assert list(joined.columns[:4]) == ["method", "order", "seed", "stage"]
    assert joined.groupby(["method", "stage"]).size().nunique() == 1
    assert len(joined) == sum(map(len, made.effects()))


def test_one_layer_per_set_is_used():
    assert tables.chosen_layers(made.conditions()).to_dict() == dict.fromkeys(made.SETS, 2)


def test_the_seven_conditions():
    table = tables.condition_table(made.conditions())
    one = table[table.set == "antonym"].set_index(["letter", "method"]).accuracy
    expected = {("a", ""): 0.1, ("b", ""): 0.7, ("c", ""): 0.5, ("d", ""): 0.8, ("e", ""): 0.05}
    expected |= {(letter, m): v for m in made.METHODS for letter, v in (("f", 0.1), ("g", 0.5))}
    assert one.to_dict() == pytest.approx(expected)
    random = table.groupby("letter").random.first()
    assert random[["c", "e", "g"]].to_list() == [0.15, 0.75, 0.15]
    assert random[["a", "b", "d", "f"]].isna().all()
    assert (table.low <= table.accuracy).all()
    assert (table.high >= table.accuracy).all()
    wilson = table[(table.letter == "c")].iloc[0]  # 10 of 20
    assert (wilson.low, wilson.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_similarity_is_the_largest_over_the_layers_and_correlates_with_accuracy():
    table = tables.alignment_table(made.alignment(), made.curves())
    assert set(table.layer) == {2}
    assert table.similarity.to_numpy() == pytest.approx(0.1 + 0.1 * table.stage)
    assert table.accuracy.to_numpy() == pytest.approx(0.2 + 0.1 * table.stage)
    found = tables.correlations(table)
    assert (found["pearson"], found["spearman"], found["within"]) == pytest.approx((1.0, 1.0, 1.0))
    assert found["n"] == 9  # the two methods have the same values: each set and stage counts once
    assert np.isnan(tables.correlations(table.assign(accuracy=0.5))["pearson"])


def test_drift_beside_the_random_sets():
    table = tables.drift_table(made.drift(), made.conditions())
    assert table.selected.to_numpy() == pytest.approx(1 - 0.1 * table.stage)
    assert table.random.to_numpy() == pytest.approx(1 - 0.2 * table.stage)
    assert table.random_sd.to_numpy() == pytest.approx(0.1)
    assert table.few_shot.to_numpy() == pytest.approx(0.8 - 0.2 * table.stage)


def test_overlap_of_head_sets(heads):
    found = tables.overlaps(heads).groupby("stage").shared.unique().map(list)
    assert found.to_dict() == {0: [3], 1: [2], 2: [1]}
    assert heads.groupby(["method", "stage"]).initial.sum().unique() == [3]


def test_recovery_at_the_chosen_layer():
    rows = tables.recovered(tables.recovery_table(made.conditions()).query("method == 'inclora'"))
    assert set(rows.columns) >= {"before", "few-shot", "zero-shot", "initial", "current", "random"}
    assert rows.iloc[0][["before", "few-shot", "zero-shot", "initial", "current"]].to_list() == pytest.approx(
        [0.8, 0.4, 0.1, 0.5, 0.15]
    )


def test_changes_by_form_and_the_steepest_drop():
    frame = changes.form_changes(made.curves())
    change = frame.groupby(["role", "form"]).change.unique().map(lambda x: round(float(x[0]), 6))
    assert change.to_dict() == {
        ("train_task", "instruction, zero-shot"): 0.2, ("train_task", "instruction, few-shot"): -0.4,
        ("held_out", "instruction, zero-shot"): 0.2, ("held_out", "instruction, few-shot"): -0.4,
        ("both_forms", "instruction, zero-shot"): 0.2, ("both_forms", "instruction, few-shot"): -0.4,
        ("both_forms", "knowledge, zero-shot"): 0.1,
    }  # fmt: skip


FIGURES = {
    "form changes": lambda heads: form_changes(changes.form_changes(made.curves())),
    "conditions": lambda heads: conditions(tables.condition_table(made.conditions())),
    "alignment": lambda heads: alignment(
        table := tables.alignment_table(made.alignment(), made.curves()), tables.correlations(table)
    ),
    "drift": lambda heads: drift(tables.drift_table(made.drift(), made.conditions())),
    "maps": effect_maps,
    "recovery": lambda heads: recovery(tables.recovery_table(made.conditions())),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_fits_the_page_without_overlaps(name, heads):
    figure = FIGURES[name](heads)
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01
    legends = [item.get_window_extent() for item in figure.findobj(matplotlib.legend.Legend)]
    titles = [axes._left_title for axes in figure.axes if axes.get_title(loc="left")]
    boxes = [*(title.get_window_extent() for title in titles), *legends]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_maps_outline_the_initial_heads_of_every_stage(heads):
    maps = [axes for axes in effect_maps(heads).axes if axes.images]
    assert len(maps) == len(made.METHODS) * len(made.STAGES)
    assert {len(axes.patches) for axes in maps} == {3}
    assert maps[1].get_title(loc="left") == "2 of 3 in S"


def test_empty_and_incomplete_tables_are_refused():
    with pytest.raises(UserError, match="is empty"):
        recovery(tables.recovery_table(made.conditions()).iloc[:0])
    with pytest.raises(UserError, match="no column 'similarity'"):
        alignment(made.alignment(), {})
    with pytest.raises(UserError, match="unknown unit"):
        effect_maps(
            tables.heads_by_stage(made.effects(), made.places(), made.initial_heads(), "probability"), "x"
        )


def test_the_chart_of_heads_has_each_stage_of_each_method(heads):
    results = AnalysisResults({"heads": heads}, {}, config={"vectors": {"rank_by": "probability"}})
    spec = said.stage_chart(results)
    maps, effects = (spec["datasets"][view["data"]["name"]] for view in spec["vconcat"])
    first = heads[heads["stage"] == 0].drop_duplicates(["layer", "head"])
    assert {row["name"] for row in maps if row["selected"]} == {
        f"{row.layer}.{row.head}" for row in first[first["initial"]].itertuples()
    }
    row = effects[-1]
    layer, head = map(int, row["name"].split("."))
    found = heads[(heads["method"] == row["method"]) & (heads["stage"] == row["of"])]
    found = found[(found["layer"] == layer) & (found["head"] == head)]
    assert row["effect"] == pytest.approx(found["effect"].mean(), abs=1e-5)
    assert len(effects) == heads.groupby(["method", "stage", "layer", "head"]).ngroups


def test_numbers_below_the_figures_are_those_of_the_tables(heads):
    frames = {
        "alignment": made.alignment(),
        "drift": made.drift(),
        "conditions": made.conditions(),
        "heads": heads,
    }
    shown = said.tables(AnalysisResults(frames, {}, curves=made.curves()))
    rows = {name: [dict(zip(t.header, row, strict=True)) for row in t.rows] for name, t in shown.items()}
    assert rows["alignment"] == [
        {
            "Pearson's r": "1.00",
            "Spearman's ρ": "1.00",
            "Pearson's r within sets": "1.00",
            "Sets and stages": 9,
        }
    ]
    accuracy = {(row["Condition"][1], row["Method"]): row["Accuracy"] for row in rows["conditions"]}
    before = [accuracy[letter, "before training"] for letter in "abcde"]
    assert before == [f"{value}\u00a0%" for value in ("10.0", "70.0", "50.0", "80.0", "5.0")]
    drift = rows["drift"][0]
    assert (drift["Cosine of θ"], drift["Cosine, random heads"]) == ("0.80", "0.60")
    assert drift["Of the strongest heads in S"] == "3 → 1 of 3"
    recovered = rows["recovery"][0]
    assert (recovered["Few-shot before"], recovered["Few-shot"]) == ("80.0\u00a0%", "40.0\u00a0%")
    changes = {(row["Sets"], row["Form"]): row["Change"] for row in rows["form_changes"]}
    assert changes["held out", "instruction, zero-shot"] == "+20.0\u00a0points"
    assert changes["held out", "instruction, few-shot"] == "−40.0\u00a0points"
    assert changes["held out, both forms", "knowledge, zero-shot"] == "+10.0\u00a0points"


def test_claims_stand_beside_what_was_measured(heads):
    frames = {
        "alignment": made.alignment(), "drift": made.drift(), "conditions": made.conditions(), "heads": heads
    }  # fmt: skip
    means = dict(zip((BASELINE, *made.METHODS), (0.5, 0.3, 0.4), strict=True))
    rows = [("level", name, measure, means[name]) for name in means for measure in ("hp", "ip", "op")]
    levels = pd.DataFrame(rows, columns=["kind", "method", "measure", "mean"])
    results = AnalysisResults(frames, {}, curves=made.curves(), table=levels)
    found = {claim.text: claim for claim in claims(results, "inclora")}
    assert found["removing it lowers accuracy"].ours == "80.0\u00a0% to 5.0\u00a0%"
    assert found["removing it lowers accuracy"].agrees
    assert not found["instruction accuracy on general sets falls"].agrees  # it rises here
    assert found["putting the heads' outputs back gives little"].agrees is None
    assert found["guidance raises in-context accuracy on held-out sets"].ours == "30.0\u00a0% to 40.0\u00a0%"
    (table,) = claims_section(results).tables
    assert len(table.rows) == len(found)
    alone = replace(results, table=levels[levels.method == "inclora"])
    assert claims_section(alone).tables[0].rows == table.rows[:-3]
    curves = results.curves
    ends = curves[(curves["role"] != "held_out") | curves["stage"].isin([0, curves["stage"].max()])]
    less = {claim.text for claim in claims(replace(results, curves=ends), "inclora")}
    # it asks for the best of all stages
    assert set(found) - less == {"newly learnt tasks lose more in a stage than general ones"}


def test_nothing_here_needs_torch():
    """The scripts of tables, figures and the report, and all functions that registries have them call."""
    analyses = registered("smoke.yaml")
    figures = [
        *core_figures(run_of(load_config(ROOT / "config.yaml"))),
        *(f for a in analyses for f in a.figures),
    ]
    calls = [*figures, *(step for a in analyses for step in a.tables)]
    modules = sorted(
        {entry.call.split(":")[0] for entry in calls} | {a.section.split(":")[0] for a in analyses}
    )
    code = f"import sys, plot, tabulate, write_report, {', '.join(modules)}; "
    code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
    root = ROOT / "workflow"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['{root}', '{root}/scripts']; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
