"""Which interrupted stage of training may be continued: only one that everything is still the same for."""

from __future__ import annotations

import os

import pytest

from anamnesis.training.stage_files import StageFiles

SETTINGS = ["code", "inclora-ivg", 0, {"dtype": "float32"}, {"epochs": 1}, {"heads": 2}, {"separator": "\n"}]


@pytest.fixture
def stage(tmp_path):
    """``stage(**changes)``: the identity of a guided second stage, some of its files written anew."""
    files = {name: tmp_path / name for name in ("task", "heads", "mean", "other_mean")}
    snapshot, adapter = tmp_path / "snapshot", tmp_path / "stage1" / "adapter"
    for folder in (snapshot, adapter):
        folder.mkdir(parents=True)
    weights = adapter / "adapter_model.safetensors"
    for path in (*files.values(), weights):
        path.write_text(f"first {path.name}")

    def ask(settings=SETTINGS, earlier=(str(adapter),), made=1, guided=True, **contents):
        for name, content in contents.items():
            (weights if name == "adapter" else files[name]).write_text(content)
        os.utime(snapshot, ns=(made, made))
        guide = {name: str(files[name]) for name in ("heads", "mean")} if guided else {}
        means = [str(files["other_mean"])] if guided else []
        made_from = StageFiles(str(snapshot), str(files["task"]), earlier, task_means=means, **guide)
        return made_from.identity(settings)

    return ask


@pytest.mark.parametrize("file", ["task", "heads", "mean", "other_mean", "adapter"])
def test_stage_is_another_when_a_file_it_reads_has_changed(stage, file):
    before = stage()
    assert stage() == before
    assert stage(**{file: "second"}) != before
    assert stage(**{file: "adapter_model.safetensors" if file == "adapter" else file}) != before
    assert (
        stage(**{file: "first adapter_model.safetensors" if file == "adapter" else f"first {file}"}) == before
    )


@pytest.mark.parametrize("place", range(len(SETTINGS)))
def test_stage_is_another_when_a_setting_has_changed(stage, place):
    changed = [*SETTINGS]
    changed[place] = "other"
    assert stage(settings=changed) != stage()


def test_stage_is_another_with_another_model_or_other_stages_before(stage):
    assert len({stage(), stage(made=2), stage(earlier=()), stage(guided=False)}) == 4
