"""What the keys of lm-evaluation-harness make of an experiment, without the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamnesis.config.job_inputs import Experiment
from anamnesis.config.load import load_config
from anamnesis.config.named_files import check_named_files
from anamnesis.core.errors import UserError
from anamnesis.estimate.jobs import jobs_table
from anamnesis.estimate.shape import known_shape
from harness_tasks import write_tasks

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "config.yaml", ROOT / "workflow/experiments/smoke.yaml"]
CHAIN = {"method": "inclora", "order": 1, "seed": 0}


def config_with(**evaluation):
    return load_config([*FILES, {"evaluation": evaluation}])


def test_by_default_there_are_no_such_jobs_and_no_other_evaluation_knows_of_the_keys():
    plain, asked = Experiment(config_with()), Experiment(config_with(harness=["arc_easy"]))
    assert plain.harness_files([CHAIN], "harness.parquet") == []
    assert plain.evaluation_params()["evaluation"] == asked.evaluation_params()["evaluation"]
    assert not any("harness" in key for key in plain.evaluation_params()["evaluation"])


@pytest.mark.parametrize(("when", "stages"), [("all", [0, 1, 2]), ("last", [0, 2])])
def test_tasks_are_asked_at_the_stages_of_held_out_sets(when, stages):
    asked = Experiment(config_with(harness=["arc_easy"], held_out_stages=when))
    files = asked.harness_files([CHAIN], "harness.parquet")
    assert asked.harness_stages == stages
    assert [Path(file).parent.name for file in files] == [f"stage{stage}" for stage in stages]
    assert len(set(map(str, files))) == len(stages)


def test_editing_a_task_file_makes_its_evaluations_stale(tmp_path):
    folder = write_tasks(tmp_path / "tasks")
    asked = Experiment(config_with(harness=["sums"], harness_folder=str(folder)))
    assert {file.name for file in asked.harness_task_files()} >= {"sums.yaml", "rows.jsonl"}


def test_the_estimate_counts_their_jobs():
    shape = known_shape("smollm2-135m", "float32")
    for when, checkpoints in (("all", 5), ("last", 3)):
        table = jobs_table(config_with(harness=["arc_easy"], held_out_stages=when), shape)
        assert table.set_index("rule").loc["evaluate_harness", "jobs"] == checkpoints
    assert "evaluate_harness" not in set(jobs_table(config_with(), shape)["rule"])


@pytest.mark.parametrize(
    ("evaluation", "named"),
    [
        ({"harness_shots": 2}, "evaluation.harness_shots: harness = [] names no task"),
        ({"harness_folder": "tasks"}, "evaluation.harness_folder: harness = [] names no task"),
        ({"harness": ["a"], "harness_examples": 0}, "evaluation.harness_examples = 0"),
        ({"harness": ["a", "a"]}, "'a' is listed 2 times"),
        ({"harness": "arc_easy"}, "evaluation.harness = 'arc_easy'"),
    ],
)
def test_keys_that_do_not_fit_are_named(evaluation, named):
    with pytest.raises(UserError) as error:
        config_with(**evaluation)
    assert named in str(error.value)


def test_without_the_package_a_run_does_not_begin(monkeypatch):
    monkeypatch.setattr("anamnesis.evaluation.harness.task_files.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^evaluation.harness: .* is not installed: pip install"):
        check_named_files(config_with(harness=["arc_easy"]))
