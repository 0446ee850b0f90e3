"""A clock that was set back or forward between runs: nothing stale is taken, nothing is made needlessly."""

from __future__ import annotations

import os
import random
import time

import pytest

from runs import MODEL, SUITE, differences, rolled_back

pytestmark = pytest.mark.faults
DAY = 24 * 3600


def date(run, seconds, folder: str = "results") -> None:
    """Date every file below a folder ``seconds()`` from now."""
    for file in (run.folder / folder).rglob("*"):
        if file.is_file():
            os.utime(file, (time.time() + seconds(),) * 2)


@pytest.mark.parametrize("clock", ["ahead", "behind", "wild"])
def test_finished_run_stays_finished(run, undisturbed, clock):
    rng = random.Random(6)
    away = {"ahead": lambda: DAY, "behind": lambda: -DAY, "wild": lambda: rng.uniform(-DAY, DAY)}[clock]
    date(run, away)
    done = run.run()
    assert "Nothing to be done" in done.stdout, done.stdout
    assert differences(run, undisturbed) == []


@pytest.mark.parametrize("jobs", [2, 14])
def test_run_begun_under_a_clock_that_was_ahead_goes_on(undisturbed, tmp_path, jobs):
    run = rolled_back(undisturbed, tmp_path / "run", jobs)
    date(run, lambda: DAY)
    done = run.run()
    assert done.returncode == 0, done.stdout
    total = len(list(undisturbed.folder.rglob(".*.made.json")))
    assert done.stdout.count("Finished jobid") == total - jobs + 1, "and the rule all"
    assert differences(run, undisturbed) == []


def test_stale_results_dated_later_are_made_again(run, undisturbed):
    """Vectors are made from other heads, and what is made from them is dated tomorrow, as before a kill."""
    other = run.with_config({"vectors": {"rank_by": "log_probability"}})
    assert other.run(MODEL / "vectors/instruction_vectors.json").returncode == 0
    date(run, lambda: DAY, str(SUITE))
    done = other.run()
    assert done.returncode == 0, done.stdout
    fresh = undisturbed.copy(run.folder.parent / "right").with_config(other.config)
    done = fresh.run()
    assert done.returncode == 0, done.stdout
    assert differences(other, fresh) == []
    assert differences(other, undisturbed) != []
