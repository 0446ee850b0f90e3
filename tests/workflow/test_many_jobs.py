"""Snakemake's own work does not grow with the number of jobs that have ended."""

import subprocess
import time
from contextlib import suppress

import psutil

from anamnesis.data.builtin import BUILTIN
from runs import kill_all

TASKS = sorted(BUILTIN)[:14]


def most_threads(process: subprocess.Popen, seconds: float = 300) -> int:
    """The most threads that a run has at once, until it ends; it is killed when the time is over."""
    end, most = time.monotonic() + seconds, 0
    try:
        while process.poll() is None:
            assert time.monotonic() < end, "waited too long"
            with suppress(psutil.Error):  # it may end between two lines
                most = max(most, psutil.Process(process.pid).num_threads())
            time.sleep(0.1)
    except BaseException:
        kill_all(process)
        raise
    return most


def test_nothing_is_left_waiting_for_each_job_that_has_ended(fresh):
    """Snakemake's own limit on submissions leaves a timer for each, which calls the scheduler every second. A
    limit that was asked for stays.
    """
    targets = [f"results/tasks/{name}.parquet" for name in TASKS]
    process = fresh.start(*targets)
    usual = most_threads(process)
    assert process.returncode == 0, (fresh.folder / "run.log").read_text()
    limited = fresh.start("--forceall", "--max-jobs-per-timespan", "50/1s", *targets)
    assert usual < len(TASKS) < most_threads(limited)
