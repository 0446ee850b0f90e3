"""One seed of all methods is complete before the next begins, and has a table of its own by then."""

import json

import pandas as pd
import pytest

import tiny_models
from runs import CONFIG, SUITE, Experiment, merged

SEEDS = (5, 3)  # in the order of the configuration, which need not be that of the numbers


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Experiment:
    folder = tmp_path_factory.mktemp("first")
    source = tiny_models.save_snapshot(folder / "source")
    changes = {"model": {"source": f"path:{source}"}, "training": {"seeds": list(SEEDS), "epochs": 1}}
    experiment = Experiment(folder, merged(CONFIG, changes))
    done = experiment.run("--cores", "1")
    assert done.returncode == 0, done.stdout[-3000:]
    return experiment


def ended(run: Experiment, method: str, seed: int, stage: int, name: str) -> float:
    return (run.folder / SUITE / method / "order1" / f"seed{seed}" / f"stage{stage}" / name).stat().st_mtime


def test_the_first_seed_of_all_methods_is_trained_and_evaluated_before_the_second_begins(run):
    files = [(s, name) for s in (1, 2) for name in ("training.parquet", "evaluation.parquet")]
    times = {
        seed: [ended(run, m, seed, *file) for m in ("inclora", "inclora-ivg") for file in files]
        for seed in SEEDS
    }
    table = (run.folder / SUITE / "first_table.md").stat().st_mtime
    assert max(times[5]) <= table <= min(times[3])


def test_the_first_table_is_that_of_the_first_seed(run):
    text = (run.folder / SUITE / "first_table.md").read_text()
    assert json.loads((run.folder / SUITE / "first_table.json").read_text())["chains"] == 2
    measures = pd.read_parquet(run.folder / SUITE / "measures.parquet")
    for method in ("inclora", "inclora-ivg"):
        (found,) = measures[(measures["method"] == method) & (measures["seed"] == 5)].itertuples()
        row = next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
        assert row.split(" | ")[1:4] == [f"{100 * x:.1f} (n=1)" for x in (found.hp, found.ip, found.op)]
    assert "Held-out sets, one by one" in text


def test_of_one_seed_there_is_no_second_table(run):
    one = merged(run.config, {"training": {"seeds": [5]}})
    plan = Experiment(run.folder, one).run("--dry-run", "--forceall").stdout
    assert "rule tabulate_results:" in plan
    assert "first_table" not in plan
