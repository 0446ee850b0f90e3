"""Faults that are made for real, for minutes: ``make faults``. Not among the tests that run by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from runs import CONFIG, ROOT, Experiment, merged

KILLS = "kills.jsonl"
COLUMNS = {
    "kill": 5,
    "victim": 9,
    "jobs done": 10,
    "running": 36,
    "redone": 7,
    "recovered": 10,
    "differences": 11,
}


@pytest.fixture(scope="session")
def kept(request) -> Path:
    """A folder that stays, so that every session has the same undisturbed run."""
    return request.config.cache.mkdir("faults")


@pytest.fixture(scope="session")
def table(kept) -> Path:
    """What has been killed so far, a JSON object a line."""
    return kept / KILLS


def after_a_run(folder: Path, config: dict) -> Experiment:
    """The experiment after a run that nobody disturbed. Nobody may change it."""
    experiment = Experiment(folder, config)
    with FileLock(folder.parent / "lock"):  # several sessions, or processes of one, may want it
        folder.mkdir(exist_ok=True)
        done = experiment.run()
    assert done.returncode == 0, done.stdout
    return experiment


@pytest.fixture(scope="session")
def undisturbed(kept) -> Experiment:
    """A small experiment on a tiny random model."""
    import tiny_models

    model = kept / "tiny-llama"
    with FileLock(kept / "lock"):
        if not model.exists():
            tiny_models.save_snapshot(model)
    changes = {"model": {"source": f"path:{model}"}, "training": {"methods": ["inclora-ivg"], "epochs": 8}}
    return after_a_run(kept / "undisturbed", merged(CONFIG, changes))


@pytest.fixture(scope="session")
def smoke(kept) -> Experiment:
    """The smoke experiment on the real model."""
    config = yaml.safe_load((ROOT / "workflow/experiments/smoke.yaml").read_text())
    return after_a_run(kept / "smoke", {**config, "results": "results"})


@pytest.fixture
def run(undisturbed, tmp_path) -> Experiment:
    """A copy of it, to be damaged."""
    return undisturbed.copy(tmp_path / "run")


def pytest_terminal_summary(terminalreporter, config) -> None:
    """What has been killed so far, in this session and before, and what came of it."""
    file = config.cache.mkdir("faults") / KILLS
    if config.option.markexpr != "faults" or not file.exists():
        return
    rows = {row["kill"]: row for row in map(json.loads, file.read_text().splitlines())}
    terminalreporter.section("kill -9")
    for row in [dict(zip(COLUMNS, COLUMNS, strict=True)), *(rows[n] for n in sorted(rows))]:
        terminalreporter.write_line("  ".join(f"{row[name]!s:<{width}}" for name, width in COLUMNS.items()))
    recovered = sum(row["recovered"] for row in rows.values())
    different = sum(row["differences"] for row in rows.values())
    terminalreporter.write_line(f"{len(rows)} killed, {recovered} recovered, {different} differences")
