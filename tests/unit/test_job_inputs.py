"""What the rules compute for a configuration: paths and lists, without a workflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anamnesis.config.job_inputs import Experiment
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path("results/smollm2-135m-instruct/func")


def experiment(**changes) -> Experiment:
    return Experiment(load_config([ROOT / "config.yaml", changes]))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made_with(folder: Path, *methods: str) -> None:
    folder.mkdir(parents=True)
    chains = [{"method": method, "order": 1, "seed": 0} for method in methods]
    (folder / "table1.json").write_text(json.dumps({"params": {"chains": chains}}))


def test_an_experiment_of_its_own_name_has_its_own_folder_and_the_same_chains():
    plain, named = experiment().places, experiment(experiment="controls").places
    assert plain.experiment == SUITE
    assert named.experiment == SUITE / "experiments" / "controls"
    for own in ("figures", "report", "answers"):
        assert getattr(plain, own) != getattr(named, own)
    for shared in ("stage", "chain", "base", "vectors", "tasks", "snapshot", "suite"):
        assert getattr(plain, shared) == getattr(named, shared)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "table1.csv", 3])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(UserError, match=r"^experiment = .*: must be ") as error:
        experiment(experiment=name)
    assert "\n" not in str(error.value)


def test_methods_that_tables_would_lose_are_named():
    made_with(SUITE, "inclora", "inclora-ivg", "lwf", "ewc")
    assert experiment().methods_to_lose() == ["ewc", "lwf"]
    assert experiment(experiment="other").methods_to_lose() == []
    made_with(SUITE / "experiments/more", "inclora")
    assert experiment(experiment="more").methods_to_lose() == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"params": {"chains": [1]}}', '{"params": null}'])
def test_a_damaged_record_loses_nothing(content):
    SUITE.mkdir(parents=True)
    (SUITE / "table1.json").write_text(content)
    assert experiment().methods_to_lose() == []


def test_recovery_is_a_file_of_each_chain():
    files = experiment().recovery_files()
    assert len(set(files)) == len(experiment().chains) > 1
    assert files[0] == str(SUITE / "inclora/order1/seed0/recovery.parquet")
    assert experiment(interventions={"sets": []}).recovery_files() == []
