"""How far a run is, from its logs and results."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from anamnesis.config.layout import Layout
from anamnesis.config.models import Config
from anamnesis.config.variants import chains
from anamnesis.core import progress, stopwatch
from anamnesis.core.job_logs import first_time, last_error
from anamnesis.core.recovery import is_held

SNAKEMAKE = Path(".snakemake")
RESULT = {"train_stage": "training.parquet", "evaluate_stage": "evaluation.parquet"}
VERBS = {"train_stage": "training", "evaluate_stage": "evaluating"}
TAIL = 1 << 14  # bytes of a log that are enough for its last lines
LOSS = re.compile(r"loss ([\d.]+)")


@dataclass(frozen=True)
class Job:
    """What the log of a job says. ``seconds``: it took or, while ``running``, has taken so far. ``share``: of
    its work that is done, None where its log does not say.
    """

    name: str
    running: bool
    seconds: float
    doing: str = ""
    share: float | None = None
    loss: float | None = None
    error: str | None = None

    def left(self, typical: float | None) -> float | None:
        """Seconds until it ends, by its own pace or else by what such jobs take."""
        if self.share:
            return self.seconds * (1 / self.share - 1)
        return None if typical is None else max(0.0, typical - self.seconds)


@dataclass(frozen=True)
class Chain:
    """A chain of stages. ``trained``: stages done; ``seconds_left`` of its own jobs, one after the other,
    None where nothing like them has been timed.
    """

    name: str
    stages: int
    trained: int
    doing: str
    loss: float | None
    seconds_left: float | None
    done: bool


@dataclass(frozen=True)
class RunState:
    """``others``: jobs at work that belong to no chain. ``failed``: name of a job -> why it ended."""

    chains: list[Chain]
    others: list[Job]
    failed: Mapping[str, str]
    alive: bool
    first_table: str
    report: Path
    at_once: int = field(default=1)

    @property
    def seconds_left(self) -> float | None:
        """Of the chains, with as many jobs at once as now; None where one of them does not know its own."""
        known = [chain.seconds_left for chain in self.chains]
        return None if None in known else sum(known) / max(1, self.at_once)


def read_run(config: Config) -> RunState:
    """The state of the run of a configuration that was started in the working directory."""
    places = Layout(config)
    logs = places.logs
    alive = is_held(SNAKEMAKE)
    jobs = {file: job for file in sorted(logs.rglob("*.log")) if (job := read_job(file, logs, alive))}
    found, of_chains = [], set()
    for chain in chains(config):
        tasks = config.suite.orders[chain["order"] - 1]
        of_chains |= set(stage_logs(logs, chain, len(tasks)).values())
        found.append(_chain(chain, tasks, places, jobs))
    running = [job for job in jobs.values() if job.running]
    tables = [
        file for name in ("table1.md", "first_table.md") if (file := places.experiment / name).is_file()
    ]
    return RunState(
        chains=found,
        others=[job for file, job in jobs.items() if job.running and file not in of_chains],
        failed={job.name: job.error for job in jobs.values() if job.error},
        alive=alive,
        first_table=_first_block(tables[0].read_text(encoding="utf-8")) if tables else "",
        report=places.report,
        at_once=len(running),
    )


def stage_logs(logs: Path, chain: Mapping[str, Any], stages: int) -> dict[tuple[str, int], Path]:
    """(rule, stage) -> log of the job."""
    name = "{method}-order{order}-seed{seed}".format(**chain)
    return {
        (rule, stage): logs / rule / f"{name}-stage{stage}.log"
        for stage in range(1, stages + 1)
        for rule in RESULT
    }


def _chain(chain: Mapping[str, Any], tasks: Iterable[str], places: Layout, jobs: Mapping[Path, Job]) -> Chain:
    tasks = list(tasks)
    folder = Path(str(places.chain).format(**chain))
    files = stage_logs(places.logs, chain, len(tasks))
    at_work = {key: jobs[file] for key, file in files.items() if file in jobs and jobs[file].running}
    missing = [
        key
        for key in files
        if key not in at_work and not (folder / f"stage{key[1]}" / RESULT[key[0]]).exists()
    ]
    typical = _typical(chain["method"], jobs)
    left = [job.left(typical[rule]) for (rule, _), job in at_work.items()]
    left += [typical[rule] for rule, _ in missing]
    losses = [job.loss for file in files.values() if (job := jobs.get(file)) and job.loss is not None]
    doing = [f"{VERBS[rule]} {tasks[stage - 1]} {job.doing}" for (rule, stage), job in at_work.items()]
    untrained = [rule for rule, _ in (*at_work, *missing) if rule == "train_stage"]
    return Chain(
        name="{method} order {order} seed {seed}".format(**chain),
        stages=len(tasks),
        trained=len(tasks) - len(untrained),
        doing=", ".join(doing) or ("waiting" if missing else "done"),
        loss=losses[-1] if losses else None,
        seconds_left=None if None in left else sum(left),
        done=not (missing or at_work),
    )


def _typical(method: str, jobs: Mapping[Path, Job]) -> dict[str, float | None]:
    """Rule -> mean seconds of its jobs that have ended: of the method or, before there are any, of all.
    Before any has ended, what those at work will take at their pace.
    """
    taken = defaultdict(list)
    for file, job in jobs.items():
        rule = file.parent.name
        if job.running and job.share:
            taken[rule, "at work"].append(job.seconds / job.share)
        elif not job.running and not job.error:
            for of in (file.stem.split("-order")[0], "all"):
                taken[rule, of].append(job.seconds)
    every = {rule: taken[rule, method] or taken[rule, "all"] or taken[rule, "at work"] for rule in RESULT}
    return {rule: mean(seconds) if seconds else None for rule, seconds in every.items()}


def read_job(file: Path, logs: Path, alive: bool) -> Job | None:
    """What a log says; None for one that a killed run has left. ``alive``: whether a run is at work now."""
    try:
        with file.open("rb") as handle:
            head = handle.read(TAIL).decode(errors="replace")
            size = handle.seek(0, 2)
            handle.seek(max(0, size - TAIL))
            tail = handle.read().decode(errors="replace")
        changed = file.stat().st_mtime
    except OSError:
        return None
    name = " ".join(file.relative_to(logs).with_suffix("").parts)
    steps = list(progress.LINE.finditer(tail))
    found = {"loss": _loss(steps)}
    if error := last_error(tail):
        return Job(name, False, 0.0, error=error, **found) if _of_this_run(changed) else None
    if ended := stopwatch.LINE.findall(tail):
        return Job(name, False, sum(map(float, ended[-1])), **found)
    if not alive or not _of_this_run(changed):
        return None
    seconds = max(0.0, time.time() - (first_time(head) or changed))
    if not steps:
        return Job(name, True, seconds, **found)
    done, total = int(steps[-1]["done"]), int(steps[-1]["total"])
    return Job(name, True, seconds, f"{done} of {total}", done / total if total else None, **found)


def _of_this_run(changed: float) -> bool:
    """Whether a file that was changed then is of the latest run, which names itself when it starts."""
    try:
        return changed >= (SNAKEMAKE / "run").stat().st_mtime
    except OSError:
        return False


def _loss(steps: list[re.Match]) -> float | None:
    found = [match for step in steps if (match := LOSS.fullmatch(step["note"] or ""))]
    return float(found[-1][1]) if found else None


def _first_block(text: str) -> str:
    """The first table of a Markdown text."""
    return "\n".join(line for line in text.split("\n\n")[0].splitlines() if line.startswith("|"))
