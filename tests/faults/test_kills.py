"""``kill -9`` at 20 moments spread over the whole smoke run, on the real model: the same command ends with
the same numbers.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from dataclasses import dataclass

import psutil
import pytest

from anamnesis.core.integrity import ENDING
from runs import Experiment, announced, differences, kill_all, rolled_back, wait_until

pytestmark = pytest.mark.faults
SEED = 6
VICTIMS = ("workflow", "job", "all")  # Snakemake alone, one job alone, Snakemake with all its jobs
LONGEST = 20.0  # seconds from the start of the first job: some two jobs


@dataclass(frozen=True)
class Kill:
    """``share`` of the jobs are done before, and the kill comes ``seconds`` after the next has begun."""

    number: int
    victim: str
    share: float
    seconds: float


def kills(count: int = 20) -> list[Kill]:
    rng = random.Random(SEED)
    victims = rng.sample([VICTIMS[i % 3] for i in range(count)], count)
    return [
        Kill(i + 1, victims[i], (i + rng.random()) / count, rng.uniform(0, LONGEST)) for i in range(count)
    ]


def jobs_of(process) -> list[psutil.Process]:
    """The scripts that run at this moment."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if rule_of(child)]


def rule_of(process: psutil.Process) -> str | None:
    try:
        found = re.search(r"/\.snakemake/scripts/\w+\.(\w+)\.py", " ".join(process.cmdline()))
    except psutil.NoSuchProcess:
        return None
    return found[1] if found else None


def strike(process, victim: str) -> list[str]:
    """Kill and wait for the end; returns the rules that were running."""
    if victim == "job":
        running: list[str] = []
        wait_until(lambda: running.extend(kill_first(jobs_of(process))) or bool(running), process)
    else:
        running = [rule for job in jobs_of(process) if (rule := rule_of(job))]
        kill_all(process) if victim == "all" else process.kill()
    process.wait(timeout=900)
    return sorted(running)


def kill_first(jobs: list[psutil.Process]) -> list[str]:
    """The rules of ``jobs``, or none if the first has ended by itself."""
    running = [rule for job in jobs if (rule := rule_of(job))]
    try:
        jobs[0].kill()
    except (IndexError, psutil.NoSuchProcess):
        return []
    return running


def finished(said: str) -> list[str]:
    """The jobs that Snakemake took note of as done: rule and wildcards."""
    jobs = announced(said)
    return [jobs[number] for number in re.findall(r"^Finished jobid: (\d+) ", said, flags=re.MULTILINE)]


@pytest.mark.parametrize("kill", kills(), ids=lambda kill: f"{kill.number:02}-{kill.victim}")
def test_same_command_ends_with_the_same_numbers(kill, smoke, tmp_path, table):
    total = len(list(smoke.folder.rglob(f".*{ENDING}")))
    done = int(kill.share * total)
    run = rolled_back(smoke, tmp_path / "run", done)
    process, log = run.start(), run.folder / "run.log"
    wait_until(lambda: announced(log.read_text()), process)
    time.sleep(kill.seconds * min(1, (total - done) / 8))  # the last jobs are short
    running = strike(process, kill.victim)
    assert kill.victim == "job" or process.returncode == -signal.SIGKILL, "it ended by itself"
    before = finished(log.read_text())
    after, wrong = resumed(run, smoke)
    again = sorted(set(before) & set(after) - {"all"})
    row = {
        "kill": kill.number,
        "victim": kill.victim,
        "jobs done": f"{done + len(before)} of {total}",
        "running": " ".join(running) or "–",
        "redone": len(again),
        "recovered": not wrong,
        "differences": len(wrong),
    }
    with table.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    assert not wrong
    assert not again, "done before the kill, and done again"
    shutil.rmtree(run.folder)  # 0.6 GB


def resumed(run: Experiment, expected: Experiment) -> tuple[list[str], list[str]]:
    """The jobs done by the same command, and what differs from ``expected`` after it, or what failed."""
    done = run.run()
    if done.returncode or "is not what was written" in done.stdout:
        return [], [done.stdout]
    return finished(done.stdout), differences(run, expected)
