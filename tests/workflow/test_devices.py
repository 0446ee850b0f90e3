"""Several GPUs on one computer: jobs of one run, each on a device of its own."""

from __future__ import annotations

import os
import re

import pandas as pd
import pytest

from runs import MODEL, SWEPT, stage


def test_each_gpu_job_has_a_device_of_its_own(whole, tmp_path):
    """Devices that only exist by name: jobs claim them, and then compute on the CPU."""
    run = whole.copy(tmp_path / "devices")
    for file in (run.folder / MODEL / "vectors" / SWEPT).glob("causal_effects*"):
        file.unlink()
    shards = [f"{MODEL}/vectors/{SWEPT}/causal_effects-{i}-of-2.parquet" for i in (1, 2)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "5,6"}
    options = ["--cores", "4", "--resources", "gpu=2", "--forcerun", "sweep_heads"]
    done = run.run(*options, "--", *shards, env=environment)
    assert done.returncode == 0, done.stdout
    logs = [run.folder / f"results/logs/sweep_heads/{SWEPT}-{i}-of-2.log" for i in (1, 2)]
    devices = [re.search(r"CUDA_VISIBLE_DEVICES=(\d)", log.read_text())[1] for log in logs]
    assert set(devices) <= {"5", "6"}
    both = [re.findall(r"gpu=(\d)", block) for block in done.stdout.split("rule sweep_heads:")[1:]]
    assert [asked[0] for asked in both] == ["1", "1"]


def test_a_stage_is_trained_by_two_processes_with_a_device_each(whole, tmp_path):
    """Snakemake runs one script, which starts the processes; the devices exist by name only. The processes
    divide the model between them.
    """
    run = whole.copy(tmp_path / "together").with_config({"model": {"gpus": 2}, "training": {"processes": 2}})
    folder = stage("inclora", 1)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "5,6"}
    done = run.run("--resources", "gpu=2", "--", folder / "training.parquet", env=environment)
    assert done.returncode == 0, done.stdout
    assert re.search(r"threads: 2\n.*gpu=2.*processes=2", done.stdout)
    log = (run.folder / "results/logs/train_stage/inclora-order1-seed0-stage1.log").read_text()
    assert "CUDA_VISIBLE_DEVICES=5,6" in log
    together, alone = (pd.read_parquet(each.folder / folder / "training.parquet") for each in (run, whole))
    assert list(together.step) == list(alone.step)
    # the first loss is that of the base model, whatever the dropout in the adapter
    assert together.loss[0] == pytest.approx(alone.loss[0], rel=1e-5)
    assert run.files() == whole.files()
