"""Runs that are killed: the same command again continues, and ends with the same numbers."""

from __future__ import annotations

import shutil
import signal

import psutil

from runs import (
    HEADS,
    MODEL,
    SUITE,
    SWEPT,
    TABLE,
    all_end,
    assert_same_results,
    kill_all,
    stage,
    wait_until,
)

METHOD = "inclora-ivg"
SWEEP_LOG = f"results/logs/sweep_heads/{SWEPT}-1-of-2.log"
RECOVERY = SUITE / METHOD / "order1/seed0/recovery.parquet"
TRAINING_LOG = f"results/logs/train_stage/{METHOD}-order1-seed0-stage1.log"


def forget_sweep_and_chain(experiment) -> None:
    """Remove what the sweep and one chain of stages made, and the summary."""
    shutil.rmtree(experiment.folder / SUITE / METHOD)
    for file in (experiment.folder / MODEL / "vectors" / SWEPT).glob("causal_effects*"):
        file.unlink()
    summary = (SUITE / name for name in ("table1.md", "table1.csv", "accuracy.parquet", "measures.parquet"))
    for path in (HEADS, *summary, SWEEP_LOG, TRAINING_LOG):
        (experiment.folder / path).unlink()


def test_killed_again_and_again_ends_with_the_same_numbers(whole, tmp_path):
    run = whole.copy(tmp_path / "killed")
    forget_sweep_and_chain(run)
    first, log = run.folder / stage(METHOD, 1), run.folder / "run.log"

    # in the sweep, Snakemake alone: its jobs must not go on together with those of the next run
    process = run.start(TABLE)
    wait_until((run.folder / SWEEP_LOG).exists, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert all_end(family)
    assert not (run.folder / HEADS).exists()

    # in training, with all its jobs
    process = run.start(TABLE)
    wait_until(lambda: any(first.glob(".checkpoints/*/checkpoint-*/complete")), process)
    kill_all(process)
    assert not (first / "adapter").exists(), "training was over before the run was killed"

    # as soon as a result is there, before Snakemake has taken note of it;
    # before that, a second run next to a living one is refused
    process = run.start(TABLE)
    wait_until((first / "evaluation.parquet").exists, process)
    process.send_signal(signal.SIGSTOP)
    assert "continuing from checkpoint-" in (run.folder / TRAINING_LOG).read_text()
    second = run.run(TABLE)
    assert second.returncode != 0
    assert f"another run (process {process.pid} on" in second.stdout
    assert run.plan(HEADS) == []  # a plan may be made during a run
    kill_all(process)

    process = run.start(TABLE, RECOVERY)  # which lay in the folder of the chain
    assert process.wait(timeout=900) == 0, log.read_text()
    assert log.read_text().count("An earlier run here was killed") == 3
    assert_same_results(run, whole)
    assert "Nothing to be done" in run.run(TABLE, RECOVERY).stdout
