"""How much of a run was not spent in its jobs, and when its first table came: from what the latest run in
``--folder`` left behind.

A run has as many seconds as it took, times its cores. Own work of a job is its function main(), without
imports. Everything else is overhead: starting Python and importing libraries, Snakemake, and cores without a
job because what could have run had to wait for something.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from _common import REPOSITORY, Line, UserError, main, report

from anamnesis.core.stopwatch import LINE

BAR, STARTING, FIRST = 20.0, 8.0, 45.0  # per cent


@dataclass(frozen=True)
class Run:
    """Seconds on the clock, cores, and a row per job: rule, seconds, work (missing if its log lacks it).
    ``first_table``: seconds until the table of the first seed was there; None without one.
    """

    seconds: float
    cores: int
    jobs: pd.DataFrame
    first_table: float | None


def latest_run(folder: Path) -> Run:
    """The newest run of ``folder`` that finished and had jobs to do. Raises UserError where there is none."""
    for file in sorted((folder / ".snakemake" / "log").glob("*.log"), reverse=True):
        text = file.read_text(encoding="utf-8", errors="replace")
        elapsed = re.search(r"^Elapsed time: (?:(\d+) days?, )?(\d+):(\d+):([\d.]+)$", text, re.MULTILINE)
        cores = re.search(r"^Provided cores: (\d+)", text, re.MULTILINE)
        jobs = re.findall(r"rule (\w+):\n(?:    .*\n)*?    log: (.+)\n", text)
        if elapsed and cores and jobs:
            days, hours, minutes, rest = (float(part or 0) for part in elapsed.groups())
            wall = ((days * 24 + hours) * 60 + minutes) * 60 + rest
            rows = [_job(folder / log, rule) for rule, log in jobs]
            return Run(
                wall,
                int(cores[1]),
                pd.DataFrame(rows, columns=["rule", "seconds", "work"]),
                _first_table(text),
            )
    raise UserError(f"--folder is '{folder}': no finished run has left its log there; run the workflow first")


def _job(log: Path, rule: str) -> tuple[str, float, float]:
    found = LINE.search(log.read_text(encoding="utf-8", errors="replace"))
    results = next(folder.parent for folder in log.parents if folder.name == "logs")
    costs = results / "benchmarks" / log.relative_to(results / "logs").with_suffix(".tsv")
    seconds = float(pd.read_csv(costs, sep="\t")["s"].iloc[0])
    return rule, seconds, float(found[1]) if found else float("nan")


def _first_table(text: str) -> float | None:
    """Of Snakemake's log, which has a time above each job that starts or ends."""
    end = re.search(r"^\[(.+)\]\nFinished jobid: \d+ \(Rule: first_table\)$", text, re.MULTILINE)
    begin = re.search(r"^\[(\w+ \w+ +\d+ [\d:]+ \d+)\]$", text, re.MULTILINE)
    if not end or not begin:
        return None
    times = [datetime.strptime(found[1], "%a %b %d %H:%M:%S %Y") for found in (begin, end)]
    return (times[1] - times[0]).total_seconds()


def lines_of(run: Run) -> list[Line]:
    """Shares of the run, in per cent of its cores' seconds; of the first table in per cent of its time."""
    whole = run.seconds * run.cores / 100
    inside, work = run.jobs["seconds"].sum() / whole, run.jobs["work"].sum(skipna=False) / whole
    note = f"{len(run.jobs)} jobs, {run.seconds / 60:.1f} min on {run.cores} cores"
    lines = [
        Line("jobs' own work", work, "%", note=note),
        Line("starting jobs: Python, imports", inside - work, "%", STARTING, at_least=False),
        Line("no job on a core: Snakemake, waiting", 100 - inside, "%"),
        Line("overhead", 100 - work, "%", BAR, at_least=False),
        Line("overhead, starting jobs counted as work", 100 - inside, "%", BAR, at_least=False),
    ]
    if run.first_table is not None:
        after = f"after {run.first_table / 60:.1f} min"
        share = 100 * run.first_table / run.seconds
        lines.append(Line("first table", share, "%", FIRST, at_least=False, note=after))
    return lines


def run() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--folder", type=Path, default=REPOSITORY, help="where Snakemake ran (default: %(default)s)"
    )
    options.add_argument("--output", type=Path, help="also write the results here: a .json or .csv file")
    options = options.parse_args()
    found = latest_run(options.folder)
    each = found.jobs.assign(start=found.jobs["seconds"] - found.jobs["work"]).groupby("rule", sort=False)
    print(each.agg(jobs=("seconds", "size"), seconds=("seconds", "sum"), start=("start", "mean")).round(1))
    return report(lines_of(found), options.output)


if __name__ == "__main__":
    main(run)
