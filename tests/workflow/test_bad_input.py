"""Mistakes and damage: one line that names the thing and the remedy, and nothing half-written."""

from __future__ import annotations

import resource

import pytest

from runs import HEADS, MODEL, SWEPT, TABLE

SNAPSHOT = "results/models/tiny"


def refused(experiment, *targets, **options) -> str:
    """The one line a run ends with; the run leaves the results as they were."""
    before = experiment.files()
    done = experiment.run(*targets, **options)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ERROR ", "configuration: "))]
    assert len(lines) == 1, done.stdout
    after = set(experiment.files())
    assert after <= set(before), "something half-written is left"
    return lines[0]


# ------------------------------------------------- in the configuration: nothing is run


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"training": {"learning_rat": 0.1}},
            ["training.learning_rat", "0.1", "did you mean training.learning_rate?"],
        ),
        ({"suite": {"held_out": ["antonim"]}}, ["suite.held_out", "'antonim'", "did you mean 'antonym'?"]),
        ({"training": {"methods": ["inclora-igv"]}}, ["training.methods", "'inclora-igv'", "'inclora-ivg'?"]),
        ({"evaluation": {"shots": 13}}, ["evaluation.shots = 13", "data.train_examples = 12", "lower"]),
        ({"suite": {"name": "$(id)"}}, ["suite.name = '$(id)'", "must be letters, digits"]),
        ({"vectors": {"head_list": [[-1, 0]]}}, ["vectors.head_list[0][0] = -1", ">= 0"]),
        (
            {"results": "experiment.yaml/results"},
            ["results = 'experiment.yaml/results'", "is not a folder", "set `results`"],
        ),
        (
            {"model": {"source": "path:/no/such/{model} $(id)"}},
            ["model.source is 'path:/no/such/{model} $(id)': no such file or folder; give a folder"],
        ),
        (
            {"data": {"tasks": {"news_topic": {"path": "gone.csv", "instruction": "Do it."}}}},
            ["data.tasks.news_topic.path = 'gone.csv': no such file; give its path"],
        ),
        ({"results": "$NOT_SET/out"}, ["the environment variable NOT_SET is not set; set it"]),
    ],
    ids=["key", "task", "method", "shots", "name", "head", "results", "model", "file", "variable"],
)
def test_configuration_is_refused_before_anything_is_run(fresh, changes, parts):
    line = refused(fresh.with_config(changes), TABLE)
    assert all(part in line for part in parts), line
    assert not (fresh.folder / "results").exists()


# ------------------------------------------------- the model


def test_model_with_another_digest(fresh):
    line = refused(fresh.with_config({"model": {"sha256": "0" * 64}}), SNAPSHOT)
    assert "model.safetensors has sha256" in line
    assert f"model.sha256 is {'0' * 64}" in line
    assert "correct model.sha256" in line


def test_no_space_left(fresh):
    """No file may grow beyond 64 KiB, as when the disk is full: the weights do not fit."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    line = refused(fresh, SNAPSHOT, preexec_fn=limit)
    assert f"no space left to write {SNAPSHOT}: free some" in line


# ------------------------------------------------- results that are there, and tasks


def test_too_few_examples_for_the_demonstrations(whole, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("input,target,split\n" + "a,b,train\nc,d,validation\ne,f,test\n")
    task = {"path": str(file), "instruction": "Write the next letter."}
    run = whole.copy(tmp_path / "run").with_config(
        {"data": {"tasks": {"next_letter": task}}, "interventions": {"sets": ["next_letter"]}}
    )
    assert run.run("results/tasks/next_letter.parquet").returncode == 0
    line = refused(run, MODEL / "vectors/next_letter/prompts.parquet")
    assert "task 'next_letter' has 1 examples to draw demonstrations from but shots is 2" in line


def test_head_that_the_model_does_not_have(whole, tmp_path):
    run = whole.copy(tmp_path / "run").with_config(
        {"vectors": {"head_list": [[0, 1], [9, 0]]}, "guidance": {"heads": 2}}
    )
    line = refused(run, HEADS)
    assert (
        "vectors.head_list names [9, 0], which the model does not have: layers are 0 to 2, heads 0 to 3"
        in line
    )


def test_layer_that_the_model_does_not_have(whole, tmp_path):
    run = whole.copy(tmp_path / "run").with_config({"interventions": {"layers": [0, 3]}})
    line = refused(run, MODEL / f"vectors/{SWEPT}/interventions.parquet")
    assert "interventions.layers names 3, which the model does not have: layers are 0 to 2" in line
