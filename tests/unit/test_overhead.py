"""What a run's overhead is, from the files it leaves behind."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from overhead import latest_run, lines_of

from anamnesis.core.errors import UserError
from anamnesis.core.stopwatch import Spent

LOG = textwrap.dedent("""\
    Provided cores: 2
    [Sun Jan  4 10:00:00 2026]
    localrule prepare_task:
        output: results/tasks/a.parquet
        log: results/logs/prepare_task/a.log
        jobid: 7
    [Sun Jan  4 10:00:00 2026]
    rule rank_heads:
        log: results/logs/rank_heads.log
        jobid: 8
    localrule all:
        input: results/report.html
        jobid: 0
    2 of 2 steps (100%) done
    """)
JOBS = {"prepare_task/a": (4.0, Spent(3.5, 0.5)), "rank_heads": (10.0, Spent(9.0, 3.0))}


def leave_behind(folder: Path, elapsed: str) -> None:
    (folder / ".snakemake" / "log").mkdir(parents=True)
    log = folder / ".snakemake" / "log" / "2026-01-04T100000.000000.snakemake.log"
    log.write_text(f"{LOG}Elapsed time: {elapsed}\n")
    for name, (seconds, spent) in JOBS.items():
        written = {"logs": f"INFO anamnesis.core.job: {spent}\n", "benchmarks": f"s\tx\n{seconds}\t0\n"}
        for (part, text), ending in zip(written.items(), ("log", "tsv"), strict=True):
            file = folder / "results" / part / f"{name}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


def test_shares_of_a_run(tmp_path):
    leave_behind(tmp_path, "0:00:10.000000")
    (tmp_path / ".snakemake" / "log" / "2026-01-05T100000.000000.snakemake.log").write_text(LOG)  # unfinished
    found = latest_run(tmp_path)
    assert (found.seconds, found.cores, list(found.jobs["rule"])) == (10.0, 2, ["prepare_task", "rank_heads"])
    shares = [line.value for line in lines_of(found)]
    # of 20 seconds of two cores jobs had 14, and worked 3 + 6 of them
    assert shares == pytest.approx([45, 25, 30, 55, 30])


def test_when_the_first_table_came(tmp_path):
    leave_behind(tmp_path, "0:00:10.000000")
    assert latest_run(tmp_path).first_table is None
    log = next((tmp_path / ".snakemake" / "log").glob("*.log"))
    ended = "[Sun Jan  4 10:00:04 2026]\nFinished jobid: 9 (Rule: first_table)\n"
    log.write_text(log.read_text().replace("2 of 2 steps", f"{ended}2 of 2 steps"))
    line = lines_of(latest_run(tmp_path))[-1]
    assert (line.what, line.value, line.note) == ("first table", pytest.approx(40), "after 0.1 min")


def test_runs_of_days(tmp_path):
    leave_behind(tmp_path, "1 day, 2:03:04.500000")
    assert latest_run(tmp_path).seconds == 26 * 3600 + 3 * 60 + 4.5


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no finished run has left its log there; run the workflow first"):
        latest_run(tmp_path)
