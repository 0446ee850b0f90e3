"""The target ``mechanisms``: what it plans, and its scripts on the chains of the whole run."""

from __future__ import annotations

import runpy

import numpy as np
import pandas as pd
import pytest

from runs import HELD_OUT, METHODS, MODEL, ROOT, SUITE, TRAINED, stage

SETS = [*TRAINED, HELD_OUT]
MECHANISMS = {
    "probes": 2, "probe_examples": 2, "subspace": 3, "matrices": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "curvature": {"examples": 2, "layer": None, "tolerance": 0.1, "vectors": 2, "radius": 0.5, "points": 3},
}  # fmt: skip
CUTOFFS = {"attention": 0.01, "output": 0.01}
ONE_MODEL = ("gradients", "similarity", "losses")
ALL_TABLES = (*ONE_MODEL, "drift", "heads", "routing", "landscape")
FIGURES = ("interference", "drift", "disruption", "landscape", "predictors")
STAGES = [(method, number) for method in METHODS for number in (1, 2)]


def script(name):
    return runpy.run_path(str(ROOT / "workflow" / "scripts" / f"{name}.py"), run_name="script")


@pytest.fixture(scope="module")
def probed(whole, tmp_path_factory):
    """Folder with the tables of the untrained model and of every stage."""
    out, results = tmp_path_factory.mktemp("probed"), whole.folder / "results"
    common = {
        "snapshot": str(results / "models/tiny"),
        "tasks": [str(results / f"tasks/{name}.parquet") for name in SETS],
        "sets": SETS,
        "model": {"dtype": "float32", "device": "cpu"},
        "mechanisms": MECHANISMS,
        "prompts": {},
        "seed": 0,
        "batch_tokens": 400,
    }
    states = str(out / "states.safetensors")
    base = {name: str(out / f"base-{name}.parquet") for name in ONE_MODEL}
    measure, here = script("measure")["main"], "anamnesis.analyses.mechanisms.probe"
    measure(f"{here}:probe_base", **common, states=states, **base)
    for method, number in STAGES:
        adapters = [str(whole.folder / stage(method, n) / "adapter") for n in range(1, number + 1)]
        outputs = {name: str(out / f"{method}-{number}-{name}.parquet") for name in ALL_TABLES}
        measure(
            f"{here}:probe_stage", **common, adapters=adapters, states=states, followed=TRAINED[0], **outputs
        )
    return out


def test_plain_run_plans_nothing_of_it_and_the_target_all(whole):
    planned = [job.split()[0] for job in whole.plan("mechanisms")]
    assert {name: planned.count(name) for name in set(planned)} == {
        "mechanisms": 1, "probe_base": 1, "probe_stage": 4, "tabulate_mechanisms": 1,
        **{f"plot_mechanisms_{figure}": 1 for figure in FIGURES},
    }  # fmt: skip
    assert not list((whole.folder / SUITE).rglob("mechanisms*"))


def test_stages_are_measured_against_the_untrained_model(probed):
    drift = pd.read_parquet(probed / "inclora-2-drift.parquet")
    assert set(drift.set) == {*SETS, "all"}
    assert set(drift.layer) == {0, 1, 2}
    assert drift[drift.set == "all"].rotation.between(0, 90).all()
    heads = pd.read_parquet(probed / "inclora-2-heads.parquet")
    assert len(heads) == len(SETS) * 3 * 4
    assert (heads.output > 0).all()
    assert pd.read_parquet(probed / "inclora-2-routing.parquet").empty
    base, now = (
        pd.read_parquet(probed / f"{name}-losses.parquet").set_index("set").loss
        for name in ("base", "inclora-1")
    )
    assert now[TRAINED[0]] < base[TRAINED[0]]  # it was learnt


def test_first_task_is_followed_in_its_own_adapter(probed):
    for number in (1, 2):
        frame = pd.read_parquet(probed / f"inclora-{number}-landscape.parquet")
        assert set(frame.set) == {TRAINED[0]}
        values = frame.set_index(["weights", "measure"]).value
        assert values["trained", "size"] == 3 * 8 * (
            48 + 48 + 48 + 24
        )  # rank 8 on q_proj and v_proj of 3 layers
        assert np.isfinite(values["trained", "eigenvalue"])
        assert values["trained", "loss"] == pytest.approx(values["base", "loss"], rel=1e-4)
        middle = frame[(frame.weights == "sliced") & (frame.step == 0)].value.item()
        assert middle == pytest.approx(values["base", "loss"], rel=1e-4)


def test_tables_and_figures_follow_from_them(whole, probed, tmp_path):
    inputs = {n: [str(probed / f"{m}-{k}-{n}.parquet") for m, k in STAGES] for n in ALL_TABLES}
    inputs |= {f"base_{name}": str(probed / f"base-{name}.parquet") for name in ONE_MODEL}
    inputs["curves"] = str(whole.folder / SUITE / "accuracy.parquet")
    vector = "vectors/{}/instruction_vector.safetensors"
    inputs["vectors"] = [str(whole.folder / MODEL / vector.format(name)) for name in SETS]
    inputs["reference"] = str(ROOT / "workflow/reference/mechanisms_claims.csv")
    parquet = ("interference", "drift", "heads", "routing", "landscape", "pairs")
    files = {f"all_{name}": str(tmp_path / f"{name}.parquet") for name in parquet}
    files |= {f"all_{n}": str(tmp_path / f"{n}.csv") for n in ("predictors", "comparison", "claims")}
    files["all_markdown"] = str(tmp_path / "mechanisms.md")
    script("tabulate")["main"](
        "anamnesis.analyses.mechanisms.tables:tabulate",
        {name: isinstance(value, list) for name, value in inputs.items()},
        list(files),
        sets=SETS,
        chains=[{"method": method, "order": 1, "seed": 0} for method in METHODS],
        orders=[list(TRAINED)],
        cutoffs=CUTOFFS,
        statistics={"bootstrap_resamples": 50, "confidence": 0.95},
        **inputs,
        **files,
    )
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(pairs) == len(METHODS) * 3  # the held-out set twice, the first task once
    assert pairs.drop(columns="sharpening").notna().all().all()
    assert "0.87" in (tmp_path / "mechanisms.md").read_text()
    plot, here = script("plot")["main"], "anamnesis.analyses.mechanisms"
    for figure, (call, name, numbers) in {
        "interference": ("figure:draw_interference", "interference", {}),
        "predictors": (
            "forgetting_figure:draw_predictors", "pairs", {"associations": str(tmp_path / "predictors.csv")}
        ),
    }.items():  # fmt: skip
        stem = tmp_path / f"mechanisms_{figure}"
        tables = {"frame": str(tmp_path / f"{name}.parquet"), **numbers}
        made = {kind: f"{stem}.{kind}" for kind in ("pdf", "png", "csv")}
        plot(f"{here}.{call}", dict.fromkeys(tables, False), "", **made, **tables)
        assert stem.with_suffix(".png").stat().st_size > 5000
