"""GPUs and memory of one computer: jobs of a run, each on its own device, no more than there is."""

from __future__ import annotations

import os
import re

import pandas as pd
import pytest

from runs import MODEL, ROOT, SWEPT, Experiment, stage


def swept_again(run: Experiment, devices: str, *options: str) -> str:
    """What a run says that makes both shards of the sweep. Its devices exist only by name: jobs claim them,
    and then compute on the CPU.
    """
    for file in (run.folder / MODEL / "vectors" / SWEPT).glob("causal_effects*"):
        file.unlink()
    shards = [f"{MODEL}/vectors/{SWEPT}/causal_effects-{i}-of-2.parquet" for i in (1, 2)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": devices}
    done = run.run("--cores", "4", "--forcerun", "sweep_heads", *options, "--", *shards, env=environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_each_gpu_job_has_a_device_of_its_own(whole, tmp_path):
    run = whole.copy(tmp_path / "devices")
    said = swept_again(run, "5,6", "--resources", "gpu=2")
    logs = [run.folder / f"results/logs/sweep_heads/{SWEPT}-{i}-of-2.log" for i in (1, 2)]
    devices = [re.search(r"CUDA_VISIBLE_DEVICES=(\d)", log.read_text())[1] for log in logs]
    assert set(devices) <= {"5", "6"}
    both = [re.findall(r"gpu=(\d)", block) for block in said.split("rule sweep_heads:")[1:]]
    assert [asked[0] for asked in both] == ["1", "1"]


def test_jobs_share_the_gpus_there_are_without_being_told(whole, tmp_path):
    """With one GPU, and jobs that ask for two: each gets the one, and the second waits for the first."""
    said = swept_again(whole.copy(tmp_path / "one"), "5", "--set-resources", "sweep_heads:gpu=2")
    assert re.search(r"Provided resources: .*mem_mb.*gpu", said)
    steps = re.findall(r"rule sweep_heads:|Finished jobid|gpu=\d", said.partition("Job stats")[2])
    assert steps == ["rule sweep_heads:", "gpu=1", "Finished jobid"] * 2


def test_a_cluster_is_not_limited_by_the_login_node_but_warned_about(whole):
    """A login node without a GPU, where auto would ask for none."""
    options = ["--profile", str(ROOT / "profiles/slurm"), "--dry-run", "--forcerun", "train_stage"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    warning = "model.device = auto and this computer has no GPU"
    auto = whole.run(*options, env=environment)
    assert auto.returncode == 0, auto.stdout
    assert auto.stdout.count(warning) == 1
    assert "gpu=0" in auto.stdout
    cuda = whole.with_config({"model": {"device": "cuda"}}).run(*options, env=environment)
    assert warning not in cuda.stdout
    assert "gpu=1" in cuda.stdout
    assert "gpu=0" not in cuda.stdout
    assert warning not in whole.run("--dry-run", env=environment).stdout


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
