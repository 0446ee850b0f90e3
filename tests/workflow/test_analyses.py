"""Analyses on request: what they compute, and that figures and report show them from then on."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from runs import SUITE, SWEPT, Experiment

ASKED = {
    "analyses": {
        "methods": ["inclora"], "stages": [2], "examples": 2, "effect_prompts": 2, "random_sets": 3,
        "layers": [0, 2], "within_stage": {"points": 2},
        "robustness": {"prompts": [2, 4], "draws": 2, "steps": 2},
    }
}  # fmt: skip
FIGURES = (
    "form_changes", "conditions", "alignment", "drift", "effect_maps", "recovery", "within_stage",
    "robustness",
)  # fmt: skip


@pytest.fixture(scope="module")
def analysed(whole, tmp_path_factory) -> Experiment:
    """The whole run with analyses, and with the report made after them. Nobody may change it."""
    experiment = whole.copy(tmp_path_factory.mktemp("analysed") / "run").with_config(ASKED)
    assert experiment.plan("analyses") == [
        f"measure_robustness task={SWEPT}", "plot_dynamics", "plot_robustness", "plot_within_stage",
        "tabulate_dynamics", "tabulate_robustness", "tabulate_settings", "tabulate_within_stage",
        "trace_base", "trace_stage method=inclora, order=1, seed=0, stage=2",
        "watch_stage method=inclora, order=1, seed=0, stage=1",
    ]  # fmt: skip
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
    text = (analysed.folder / "results/report.html").read_text()
    assert text.count("data:image/png;base64,") == 4 + len(FIGURES)
    assert "Inside the models" in text
    assert "How overshadowing happens" in text
    assert "Head outputs against optimised vectors" in text
    assert "Tasks, templates and settings" in text
    for name in FIGURES:
        assert f"figures/{name}.csv" in text
    assert (analysed.folder / SUITE / "settings" / "training.tex").stat().st_size > 500


def test_nothing_is_left_to_do_and_figures_alone_are_drawn_again(analysed, tmp_path):
    assert analysed.plan("analyses") == analysed.plan() == []
    copy = analysed.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / SUITE / "figures")
    assert all(job.startswith("plot_") for job in copy.plan("figures"))
    assert "plot_dynamics" in copy.plan("figures")
