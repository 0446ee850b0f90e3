"""Analyses on request: what they compute, and that figures and report show them from then on."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from runs import HELD_OUT, MODEL, SUITE, SWEPT, TRAINED, Experiment

ASKED = {
    "analyses": {
        "methods": ["inclora"], "stages": [2], "examples": 2, "effect_prompts": 2, "random_sets": 3,
        "layers": [0, 2], "interventions": [TRAINED[0]], "within_stage": {"points": 2},
        "robustness": {"prompts": [2, 4], "draws": 2, "steps": 2}, "shift": {"examples": 2},
    },
    "mechanisms": {
        "methods": ["inclora"], "probes": 2, "probe_examples": 2, "subspace": 3,
        "curvature": {"examples": 2, "tolerance": 0.1, "vectors": 2, "radius": 0.5, "points": 3},
    },
}  # fmt: skip
FIGURES = (
    "form_changes", "conditions", "alignment", "drift", "effect_maps", "recovery", "guidance_gain",
    "wordings", "sufficiency", "within_stage", "robustness", "shift",
)  # fmt: skip
MECHANISMS = [
    f"mechanisms_{name}" for name in ("interference", "drift", "disruption", "landscape", "predictors")
]


@pytest.fixture(scope="module")
def analysed(whole, tmp_path_factory) -> Experiment:
    """The whole run with analyses, and with the report made after them. Nobody may change it."""
    experiment = whole.copy(tmp_path_factory.mktemp("analysed") / "run").with_config(ASKED)
    planned = [job.split()[0] for job in experiment.plan("analyses")]
    assert {name: planned.count(name) for name in planned} == {
        "trace_base": 1, "trace_stage": 1, "tabulate_dynamics": 1, "tabulate_settings": 1,
        "tabulate_open_questions": 1, "watch_stage": 1, "tabulate_within_stage": 1, "measure_robustness": 1,
        "tabulate_robustness": 1, "measure_shift": 1, "tabulate_shift": 1,
        "intervene": 1, "probe_base": 1, "probe_stage": 2, "tabulate_mechanisms": 1,
        **{f"plot_{figure}": 1 for figure in (*FIGURES, *MECHANISMS)},
    }  # fmt: skip
    for target in (["analyses"], []):
        done = experiment.run(*target)
        assert done.returncode == 0, done.stdout
    return experiment


def test_tables_have_a_row_for_every_place(analysed):
    folder = analysed.folder / SUITE / "dynamics"
    columns = {
        "alignment": ["vector", "layer", "cosine", "sd", "n", "set"],
        "drift": ["heads", "draw", "cosine", "set"],
        "conditions": ["split", "condition", "vector", "layer", "accuracy", "n", "set"],
        "heads": [
            "rank", "layer", "head", "effect", "standard_error", "n_prompts", "n_tasks", "selected",
            "initial",
        ],
    }  # fmt: skip
    for name, expected in columns.items():
        frame = pd.read_parquet(folder / f"{name}.parquet")
        assert list(frame.columns) == ["method", "order", "seed", "stage", *expected]
        assert set(frame.stage) == {0, 2}
    drift = pd.read_parquet(folder / "drift.parquet")
    assert drift.groupby("stage").size().to_dict() == {0: 4, 2: 4}  # one set: the heads of S and three draws
    assert drift[drift.stage == 0].cosine.to_numpy() == pytest.approx(1.0)
    assert set(drift["set"]) == {SWEPT}
    initial = pd.read_parquet(folder / "heads.parquet").groupby("stage").initial.sum()
    assert initial.to_dict() == {0: 3, 2: 3}


def test_open_questions_have_tables_of_what_was_asked(analysed):
    folder = analysed.folder / SUITE / "dynamics"
    worded = pd.read_parquet(folder / "wordings.parquet")
    assert worded.groupby(["stage", "set", "shots"]).size().to_dict() == {
        (stage, name, shots): 6 for stage in (0, 2) for name in (HELD_OUT, SWEPT) for shots in (0, 2)
    }  # one example, the own wording and five others
    before = pd.read_parquet(analysed.folder / SUITE / "base/stage0/evaluation.parquet")
    asked = ["set", "shots", "example_id"]
    both = worded[(worded.stage == 0) & (worded.wording == 0)].merge(
        before[before.form == "instruction"], on=asked, suffixes=("", "_before")
    )
    assert len(both) == 4
    assert (both.score == both.score_before).all()
    enough = pd.read_parquet(folder / "sufficiency.parquet")
    assert set(enough.condition) == {"zero-shot", "few-shot", "theta"}  # too few heads for more
    conditions = pd.read_parquet(folder / "conditions.parquet")
    same = conditions[(conditions.stage == 0) & (conditions.split == "test")].set_index("condition").accuracy
    for condition in ("zero-shot", "few-shot"):
        assert enough[enough.condition == condition].right.mean() == same[condition]
    gains = pd.read_parquet(folder / "guidance_gain.parquet")
    assert list(gains["set"]) == list(TRAINED)
    assert (gains.tokens > 4).all()


def test_a_stage_is_looked_into_and_ends_as_it_did(analysed):
    table = pd.read_parquet(analysed.folder / SUITE / "dynamics/within_stage.parquet")
    assert set(table.method) == {"inclora"}
    assert set(table.stage) == {1}
    assert sorted(table.step.unique()) == [0, 24, 48]  # 12 examples, 4 at a time, 16 epochs
    assert set(table.difference) == {0.0}
    assert (table[table.measure == "effect"].groupby("name").size() == 3).all()


def test_vectors_of_heads_stand_beside_optimised_ones(analysed):
    table = pd.read_parquet(analysed.folder / SUITE / "dynamics/robustness.parquet")
    assert set(table["set"]) == {SWEPT}
    counts = table[table.measure == "accuracy"].groupby(["extractor", "prompts"]).size().to_dict()
    assert counts == {("none", 0): 1, **{(e, n): 2 for e in ("heads", "optimised") for n in (2, 4)}}
    assert table[table.measure == "cosine"].value.between(-1.001, 1.001).all()


def test_report_shows_every_figure_with_its_numbers(analysed):
    text = (analysed.folder / SUITE / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 5 + len(FIGURES) + 5
    assert "Inside the models" in text
    assert "Mechanisms of forgetting" in text
    assert "Open questions" in text
    assert text.count("The data are too few to say that") >= 2
    assert "How overshadowing happens" in text
    assert "Head outputs against optimised vectors" in text
    assert "Tasks, templates and settings" in text
    for name in FIGURES:
        assert f"figures/{name}.csv" in text
    assert (analysed.folder / SUITE / "settings" / "training.tex").stat().st_size > 500


def test_interventions_asked_for_join_the_figure(analysed):
    assert (analysed.folder / MODEL / "vectors" / TRAINED[0] / "interventions.parquet").exists()
    shown = pd.read_csv(analysed.folder / SUITE / "figures" / "interventions.csv")
    assert set(shown["set"]) == {SWEPT, TRAINED[0]}


def test_nothing_is_left_to_do_and_figures_alone_are_drawn_again(analysed, tmp_path):
    assert analysed.plan("analyses") == analysed.plan() == []
    copy = analysed.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / SUITE / "figures")
    assert all(job.startswith("plot_") for job in copy.plan("figures"))
    assert {f"plot_{name}" for name in (*FIGURES, *MECHANISMS)} <= set(copy.plan("figures"))
