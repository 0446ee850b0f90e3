"""What the configuration names on this computer is looked for before anything runs."""

from __future__ import annotations

import json

import pytest

from anamnesis.config import load_config
from anamnesis.config.named_files import check_named_files
from anamnesis.core.errors import UserError
from runs import ROOT
from tiny_models import save_snapshot


@pytest.fixture
def check(tmp_path):
    """``check(model=…, task=…, encoder=…)``: the message, or None; what is not given is there."""
    model, task = save_snapshot(tmp_path / "model"), tmp_path / "mine.csv"
    task.write_text("input,target\na,b\n")

    def call(model=model, task=task, encoder="self", names=("mine", "plural"), methods=("inclora", "jfa")):
        changes = {
            "results": str(tmp_path / "out"),
            "model": {"name": "tiny", "source": f"path:{model}", "sha256": None},
            "data": {"tasks": {"mine": {"path": str(task), "instruction": "Do it."}}},
            "suite": {"orders": [list(names)], "held_out": ["antonym"]},
            "interventions": {"sets": ["antonym"]},
            "methods": {"jfa": {"encoder": encoder}},
            "training": {"methods": list(methods)},
        }
        config = load_config([ROOT / "config.yaml", changes])
        try:
            check_named_files(config)
        except UserError as error:
            return str(error)

    return call


def test_files_that_are_there_are_no_problem(check, tmp_path):
    assert check(encoder=f"path:{tmp_path / 'model'}") is None


def test_all_that_is_missing_is_said_at_once(check):
    assert check(model="/nope", task="gone.csv", encoder="path:/no-encoder").split("; ")[::2] == [
        "model.source is 'path:/nope': no such file or folder",
        "data.tasks.mine.path = 'gone.csv': no such file",
        "methods.jfa.encoder = 'path:/no-encoder': no config.json there",
    ]


def test_a_folder_without_a_whole_model_is_found(check, tmp_path):
    (tmp_path / "model" / "model.safetensors").unlink()
    assert "holds neither config.json with *.safetensors nor exactly one" in check()
    assert "which is no GGUF file" in check(model=tmp_path / "model" / "config.json")


def test_a_folder_is_no_task(check, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv': it is a folder; give its path" in check(task=tmp_path / "folder.csv")


def test_what_is_not_used_is_not_looked_for(check):
    assert check(task="gone.csv", names=("plural", "singular")) is None
    assert check(encoder="path:/no-encoder", methods=("inclora",)) is None


def test_what_is_prepared_is_not_looked_for(check, tmp_path):
    models, tasks = tmp_path / "out" / "models", tmp_path / "out" / "tasks"
    for folder in (models / "tiny", tasks):
        folder.mkdir(parents=True)
    (models / "tiny.json").write_text(json.dumps({"source": "path:/nope"}))
    (tasks / "mine.parquet").touch()
    assert check(model="/nope", task="gone.csv") is None
    assert "'path:/other': no such" in check(model="/other", task="gone.csv")
    (models / "tiny.json").write_text("{")
    assert "'path:/nope': no such" in check(model="/nope")
