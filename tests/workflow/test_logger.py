"""What a person sees of a run under ``--logger anamnesis``, as ``make run`` starts it."""

from __future__ import annotations

import re

LOGGER = ("--logger", "anamnesis", "--cores", "2")  # before another option: it takes all words up to the next


def said(done) -> list[str]:
    """The lines of a run, without what Snakemake says of its profile before the logger is there."""
    return [
        line for line in done.stdout.splitlines() if not line.startswith("Using workflow specific profile")
    ]


def test_each_job_is_one_line(fresh):
    done = fresh.run(*LOGGER, "results/tasks/capital_choice.parquet")
    assert done.returncode == 0, done.stdout
    first, second = said(done)
    assert first == "1 jobs: 1 prepare_task"
    assert re.fullmatch(r"1/1  prepare_task capital_choice: \d+ s", second)
    assert said(fresh.run(*LOGGER, "results/tasks/capital_choice.parquet")) == [
        "Nothing to be done (all requested files are present and up to date)."
    ]


def test_a_plan_is_the_number_of_jobs(fresh):
    first, *others = said(fresh.run(*LOGGER, "--dry-run"))
    assert re.match(r"\d+ jobs: 1 prepare_model, ", first)
    assert not others


def test_the_last_line_says_why_a_job_failed(fresh):
    (fresh.folder / "broken.csv").write_text("input,target\na,b\nc,\n")
    broken = fresh.with_config({"data": {"tasks": {"mine": {"path": "broken.csv", "instruction": "Say."}}}})
    done = broken.run(*LOGGER, "results/tasks/mine.parquet")
    assert done.returncode == 1
    *_, last = said(done)
    assert last.startswith("prepare_task mine: ")
    assert "broken.csv" in last
    assert "Look above" not in done.stdout
