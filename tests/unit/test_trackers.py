"""Trackers get the numbers of a run, once each, and have no say in them."""

from __future__ import annotations

import json
import logging
import os
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import tiny_models
from anamnesis.config.job_inputs import Experiment
from anamnesis.config.load import load_config
from anamnesis.core import job, tracker_settings, trackers
from anamnesis.core.artifacts import digest_file, write_parquet, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.core.trackers import reporting
from anamnesis.training.loop import StageTrainer

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "config.yaml"
TENSORBOARD = {"report_to": ["tensorboard"], "logging_steps": 1, "project": "anamnesis"}
STAGE = Path("tiny/func/inclora-ivg/order1/seed0/stage1")
TRAINING = {
    "epochs": 3, "batch_size": 2, "gradient_accumulation": 2, "learning_rate": 0.02,
    "optimizer": "adamw_torch", "scheduler": "linear", "weight_decay": 0.01,
    "warmup_ratio": 0.0, "max_input_tokens": 64,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]},
}  # fmt: skip
GUIDANCE = {
    "schedule": "linear", "plateau": 0.25, "intervention": True, "heads": 2, "vectors_from": "initial",
    "control": "none",
    "kl": {
        "weight": 0.05, "teacher": "previous", "positions": "all", "direction": "student_teacher",
        "temperature": 2.0, "temperature_squared": False, "reduction": "sum",
    },
}  # fmt: skip


class Killed(BaseException):
    pass


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: name -> (step, value) in the order of the files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


# ---------------------------------------------------------------- the section of the configuration


def test_trackers_are_off_by_default():
    assert load_config(DEFAULT).trackers.report_to == ()


def test_a_tracker_that_is_not_installed_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(tracker_settings, "find_spec", lambda name: None if name == "wandb" else object())
    load_config([DEFAULT, {"trackers": {"report_to": ["tensorboard", "trackio"]}}])
    with pytest.raises(UserError, match=r"trackers\.report_to: the package wandb is not installed") as caught:
        load_config([DEFAULT, {"trackers": {"report_to": ["wandb"]}}])
    assert "pip install wandb" in str(caught.value)
    with pytest.raises(UserError, match="must be one of tensorboard, mlflow, wandb, trackio"):
        load_config([DEFAULT, {"trackers": {"report_to": ["neptun"]}}])


def test_no_job_is_told_of_trackers():
    """Snakemake makes results again whose params changed; a checkpoint is known by them, too."""
    plain, tracked = (Experiment(load_config([DEFAULT, more])) for more in ({}, {"trackers": TENSORBOARD}))
    assert plain.settings == tracked.settings
    assert "trackers" not in plain.settings
    place = SimpleNamespace(method="inclora-ivg", order="1", seed="0", stage="2")
    place.get = lambda name, default=None: getattr(place, name, default)
    for params in ("training_params", "evaluation_params"):
        told = [getattr(experiment, params)() for experiment in (plain, tracked)]
        written = [{k: v(place) if callable(v) else v for k, v in params.items()} for params in told]
        assert written[0] == written[1]


def test_a_job_gets_the_section_and_the_folder_of_results_and_its_record_does_not(tmp_path):
    seen = {}

    def main(trackers=None):
        seen.update(trackers or {})

    call = SimpleNamespace(
        rule="x", threads=1, input={}, params={}, resources={}, config={"trackers": TENSORBOARD},
        output={"record": str(tmp_path / "r/a.json")}, log=[str(tmp_path / "r/logs/x/y.log")],
    )  # fmt: skip
    job._run(call, main, 0.0, 1, Path(call.log[0]))
    assert seen == {**TENSORBOARD, "report_to": ("tensorboard",), "results": str(tmp_path / "r")}
    assert "tensorboard" not in (tmp_path / "r/a.json").read_text()
    seen.clear()
    call.config = {}
    job._run(call, main, 0.0, 1, Path(call.log[0]))
    assert not seen


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A model, a task, its heads and mean activations."""
    folder = tmp_path_factory.mktemp("study")
    tiny_models.save_snapshot(folder / "model")
    rows = {"input": [f"hot {i}" for i in range(8)], "target": [f"cold {i % 3}" for i in range(8)]}
    frame = pd.DataFrame(rows).assign(
        split="train", example_id=[f"t{i}" for i in range(8)], instruction="Go."
    )
    write_parquet(folder / "task.parquet", frame)
    noise = torch.Generator().manual_seed(0)
    write_tensors(folder / "mean.safetensors", {"mean": torch.randn(3, 4, 12, generator=noise)})
    heads = pd.DataFrame({"layer": [0, 1, 2], "head": [1, 2, 3], "selected": [True, True, False]})
    write_parquet(folder / "heads.parquet", heads)
    return folder


@pytest.fixture
def train(study, tmp_path):
    """``train(name, trackers)``: the folder of a guided stage, trained by the workflow's own script."""
    main = runpy.run_path(str(ROOT / "workflow/scripts/train_stage.py"))["main"]

    def run(name: str, section: dict | None = None) -> Path:
        results = tmp_path / name
        main(
            snapshot=str(study / "model"), task=str(study / "task.parquet"), method="inclora",
            needs={"adapter": "new", "tuner": "lora"}, stage=1, seed=0,
            model={"name": "tiny", "source": "", "dtype": "float32", "device": "cpu", "gpus": 1},
            training=TRAINING, settings={}, guidance=GUIDANCE, batch_tokens=64, checkpoint_steps=2,
            prompts={"input_label": "Input:", "output_label": "Output:", "separator": "\n\n"},
            adapter=str(results / STAGE / "adapter"), steps=str(results / STAGE / "training.parquet"),
            heads=str(study / "heads.parquet"), mean=str(study / "mean.safetensors"),
            trackers=section and {**section, "results": str(results)},
        )  # fmt: skip
        return results

    return run


def digests(results: Path) -> dict[str, str]:
    stage = results / STAGE
    files = [*stage.rglob("*.safetensors"), stage / "training.parquet", stage / "adapter/adapter_config.json"]
    return {str(file.relative_to(stage)): digest_file(file) for file in files}


def reported(results: Path) -> dict[str, list[tuple[int, float]]]:
    return scalars(results / "trackers/tensorboard" / STAGE / "training")


def expected(results: Path, every: int = 1) -> dict[str, list[tuple[int, float]]]:
    """Of the log of a stage: the mean of every part over the passes of so many steps."""
    log = pd.read_parquet(results / STAGE / "training.parquet")
    span = log["step"] // every
    means = log.drop(columns=["step", "learning_rate"]).groupby(span).mean()
    means["learning_rate"] = log.groupby(span)["learning_rate"].last()
    means.index = every * (means.index + 1)
    return {f"train/{name}": list(means[name].items()) for name in means}


def same(actual: dict[str, list], wanted: dict[str, list]) -> None:
    assert {*actual} == {*wanted, "train/grad_norm"}
    for name, values in wanted.items():
        assert [step for step, _ in actual[name]] == [step for step, _ in values], name
        assert [value for _, value in actual[name]] == pytest.approx([v for _, v in values], rel=1e-6), name
    assert all(value > 0 for _, value in actual["train/grad_norm"])


def test_a_tracker_gets_every_step_and_changes_no_bit(train):
    plain, tracked = train("plain"), train("tracked", TENSORBOARD)
    assert digests(plain) == digests(tracked)
    same(reported(tracked), expected(tracked))
    assert {"train/loss", "train/kl"} <= {*reported(tracked)}
    assert not (plain / "trackers").exists()


def test_steps_between_reports_are_averaged(train):
    same(reported(results := train("some", {**TENSORBOARD, "logging_steps": 3})), expected(results, 3))


def test_a_stage_that_was_killed_goes_on_in_its_run_and_repeats_no_step(train, monkeypatch):
    whole = StageTrainer.training_step

    def dies(self, *arguments, **more):
        if self.state.global_step == 5:  # behind the checkpoint of step 4
            raise Killed
        return whole(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", dies)
        with pytest.raises(Killed):
            train("killed", TENSORBOARD)
    results = train("killed", TENSORBOARD)
    same(reported(results), expected(results))
    train("killed", TENSORBOARD)  # once more from the start: another training, which takes the place of this
    same(reported(results), expected(results))


@pytest.mark.parametrize("line", ['{"mlflow": "12', "[3", "[1, 2, 3]", "7", "[[], {}]", "null", "\udcff"])
def test_what_a_kill_has_cut_short_is_left_out(tmp_path, line):
    kept = tmp_path / "kept.jsonl"
    whole = '{"wandb": "a"}\n[1, {"x": 0.5}]\n'
    kept.write_bytes(whole.encode() + line.encode(errors="surrogateescape"))
    with reporting({**TENSORBOARD, "results": str(tmp_path)}, tmp_path / STAGE, "training", kept) as reporter:
        assert (reporter.run.ids, reporter.run.rows) == ({"wandb": "a"}, [(1, {"x": 0.5})])


def test_a_tracker_that_fails_stops_no_training(train, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("api_key not configured\nsee the manual")

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", fails)
    with caplog.at_level(logging.WARNING):
        results = train("failing", TENSORBOARD)
    assert (results / STAGE / "adapter/adapter_model.safetensors").exists()
    lines = [r.getMessage() for r in caplog.records if "tensorboard" in r.getMessage()]
    assert lines == ["tensorboard gets no metrics of this job any more (api_key not configured)"]


# ---------------------------------------------------------------- evaluation


def test_an_evaluation_is_reported_at_its_stage(tmp_path):
    from anamnesis.evaluation.records import mean_scores_by_name

    rows = [("antonym", "instruction", 0, 1.0), ("antonym", "instruction", 0, 0.0), ("yelp", "bare", 5, 0.25)]
    metrics = mean_scores_by_name(pd.DataFrame(rows, columns=["set", "form", "shots", "score"]))
    assert metrics == {"eval/antonym/instruction/0-shot": 0.5, "eval/yelp/bare/5-shot": 0.25}
    section = {**TENSORBOARD, "results": str(tmp_path)}
    for _ in range(2):  # the second takes the place of the first
        with reporting(section, tmp_path / STAGE, "evaluation") as reporter:
            reporter(4, metrics)
    shown = scalars(tmp_path / "trackers/tensorboard" / STAGE / "evaluation")
    assert shown == {name: [(4, value)] for name, value in metrics.items()}


# ---------------------------------------------------------------- the others, where they are installed

REPORT = """
import os, sys
from pathlib import Path
from anamnesis.core.trackers import reporting
name, first, last, killed = sys.argv[1], *map(int, sys.argv[2:])
section = {"report_to": [name], "logging_steps": 1, "project": "tests", "results": "results"}
stage = Path("results/tiny/func/fvg/order1/seed0/stage2")
with reporting(section, stage, "training", Path("kept.jsonl")) as reporter:
    for step in range(first, last + 1):
        reporter(step, {"train/loss": 1.0 / step, "train/kl": step / 8})
    if killed:
        import time; time.sleep(2); os._exit(9)
"""
RUN = "tiny/func/fvg/order1/seed0/stage2/training"


def of_mlflow(folder: Path) -> tuple[str, str, list]:
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    return run.info.run_name, run.data.tags["group"], [(m.step, m.value) for m in history]


def wandb_records(file: Path):
    """The records of an offline run: a log of LevelDB's form, in blocks, after a header of seven bytes."""
    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield parts
            parts = b""


def of_wandb(folder: Path) -> tuple[str, str, list]:
    from wandb.proto.wandb_internal_pb2 import Record

    rows, runs = [], set()
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in map(Record.FromString, wandb_records(file)):
            if record.HasField("run"):
                runs.add((record.run.run_id, record.run.display_name, record.run.run_group))
            if record.HasField("history"):
                items = {
                    ".".join(item.nested_key) or item.key: item.value_json for item in record.history.item
                }
                rows.append((int(items["_step"]), json.loads(items["train/loss"])))
    ((_, name, group),) = runs  # one run, in as many files as processes
    return name, group, rows


def of_trackio(folder: Path) -> tuple[str, str, list]:
    import trackio

    (run,) = trackio.Api().runs("tests")
    with sqlite3.connect(folder / "trackio/tests.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    return (
        run.name,
        run.config["_Group"],
        [(step, json.loads(metrics)["train/loss"]) for step, metrics in rows],
    )


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_run_goes_on_where_a_killed_job_stopped(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(name)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for first, last, killed in ((1, 5, 1), (4, 8, 0)):  # steps 4 and 5 once more, behind a checkpoint
        command = [sys.executable, "-c", REPORT, name, str(first), str(last), str(killed)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 9 * killed, done.stderr
        assert "gets no metrics" not in done.stderr
    run, group, steps = {"mlflow": of_mlflow, "wandb": of_wandb, "trackio": of_trackio}[name](tmp_path)
    assert (run, group) == (RUN, "tiny/func/fvg/order1/seed0")
    assert steps == [(step, pytest.approx(1 / step)) for step in range(1, 9)]
