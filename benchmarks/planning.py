"""How long Snakemake takes to plan a large experiment: a dry run of ``--jobs`` jobs.

Seconds on the clock move with what else the computer does; the processor's seconds, printed too, do so less.
The experiment has ten methods and ten tasks, and as many seeds as it takes.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from _common import REPOSITORY, Line, UserError, main, report

from anamnesis.config.methods import METHOD_NAMES
from anamnesis.data.builtin import BUILTIN

METHODS, TASKS = 10, 10
LEAST = 2 * METHODS * TASKS  # training and evaluation of every stage, for one seed
BAR = 30.0  # seconds, for 2,000 jobs


def experiment(jobs: int) -> dict:
    """A configuration of at least ``jobs`` jobs, on built-in tasks."""
    names = list(BUILTIN)
    return {
        "suite": {"name": "large", "orders": [names[:TASKS]], "held_out": names[TASKS : TASKS + 2]},
        "training": {"methods": list(METHOD_NAMES[:METHODS]), "seeds": list(range(-(-jobs // LEAST)))},
    }


def plan(folder: Path, least: int) -> tuple[int, float, float]:
    """Jobs of a dry run of at least so many, its seconds on the clock, and those of the processor."""
    (folder / "large.yaml").write_text(yaml.safe_dump(experiment(least)))
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--cores", "1"]
    command += ["--directory", folder, "--configfile", folder / "large.yaml", "--dry-run", "--quiet", "rules"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    on_clock = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = done.stdout + done.stderr
    jobs = re.search(r"^total +(\d+)$", said, flags=re.MULTILINE)
    if done.returncode or jobs is None:
        raise UserError(f"the dry run failed: {said.strip().splitlines()[-1]}")
    spent = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return int(jobs[1]), on_clock, spent


def run() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--jobs", type=int, default=2000, help="jobs to plan (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="dry runs (default: %(default)s)")
    options.add_argument("--output", type=Path, help="also write the results here: a .json or .csv file")
    options = options.parse_args()
    clock, processor = [], []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            jobs, on_clock, of_processor = plan(Path(name), options.jobs)
            clock.append(on_clock)
            processor.append(of_processor)
    note = f"{jobs} jobs"
    lines = [
        Line("dry run, on the clock", min(clock), "s", BAR, at_least=False, note=note),
        Line("dry run, of the processor", min(processor), "s", note=note),
    ]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
