"""Metrics of a job for the trackers in which people follow experiments (``trackers.report_to``).

Nothing here has a say in a result: where a tracker fails, the job goes on without it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from anamnesis.core.errors import first_line

REPORTED = "reported.jsonl"
"""Among the checkpoints of a stage: what it has reported, for the job that goes on when it is killed."""

log = logging.getLogger(__name__)


@dataclass
class TrackedRun:
    """A run as trackers see it: one for each job. ``name``: its path below the results, with what the job
    does; ``folder``: for files of trackers.

    What a killed job has reported, for the one that goes on in its place: ``ids``, what trackers call the
    run, and ``rows``, (step, metrics).
    """

    name: str
    kind: str
    project: str
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def group(self) -> str:
        """What the stages of a chain share."""
        return str(Path(self.name).parents[1])

    @property
    def last(self) -> int:
        """The last step that was reported."""
        return self.rows[-1][0] if self.rows else -1


class Reporter:
    """Takes the metrics of a run, by name, at rising steps. A stage that goes on from a checkpoint repeats
    the steps behind it, with the same numbers: they are left out, and a tracker that has lost some of the
    earlier steps (what waited to be sent as the job was killed) gets them again.

    ``every``: steps from one report to the next; ``kept``: a file that outlives a killed job, or None.
    Trackers begin with the first report: only the process that reports has any.
    """

    def __init__(self, run: TrackedRun, names: Sequence[str], every: int, kept: Path | None):
        self.run, self.every, self.kept = run, every, kept
        self.waiting, self.trackers = list(names), {}
        if kept and kept.exists():
            _read_kept(kept, run)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        if step <= self.run.last:
            return
        for name in self.waiting:
            with self._not_in_the_way(name):
                self._begin(name)
        self.waiting.clear()
        for name in list(self.trackers):
            with self._not_in_the_way(name):
                self.trackers[name].log(step, metrics)
        self.run.rows.append((step, dict(metrics)))
        self._keep(self.run.rows[-1])

    def close(self) -> None:
        for name in list(self.trackers):
            with self._not_in_the_way(name):
                self.trackers[name].close()

    def _begin(self, name: str) -> None:
        import_module(name)  # some take seconds, for which no other job has to wait
        self.run.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.run.folder / ".lock"):  # jobs begin together, and some trackers make a database
            tracker = self.trackers[name] = TRACKERS[name](self.run)
        self._keep(self.run.ids)
        for step, metrics in self.run.rows:
            if step > tracker.has:
                tracker.log(step, metrics)

    def _keep(self, what) -> None:
        if self.kept:
            with self.kept.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(what)}\n")

    @contextmanager
    def _not_in_the_way(self, name: str) -> Iterator[None]:
        """Trackers fail in many ways (no login, no network): each ends the reporting to it alone. They also
        print, and may ask for a login: nobody is there to answer.
        """
        asked = sys.stdin
        try:
            with open(os.devnull) as sys.stdin, open(os.devnull, "w") as said, redirect_stdout(said):
                yield
        except Exception as error:
            self.trackers.pop(name, None)
            log.warning("%s gets no metrics of this job any more (%s)", name, first_line(error))
        finally:
            sys.stdin = asked


def _read_kept(kept: Path, run: TrackedRun) -> None:
    for line in kept.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError):  # cut short by a kill
            what = json.loads(line)
            if isinstance(what, dict):
                run.ids |= what
            else:
                step, metrics = what
                run.rows.append((int(step), dict(metrics)))


@contextmanager
def reporting(
    trackers: Mapping[str, Any] | None, folder: str | Path, kind: str, kept: Path | None = None
) -> Iterator[Reporter | None]:
    """Yields what takes the metrics of a job, or None where no tracker is asked for. ``trackers``: the
    section of the configuration, with ``results``; ``folder``: of the job's results; ``kind``: what it does;
    ``kept``: see :class:`Reporter`.
    """
    if not trackers or not trackers["report_to"]:
        yield None
        return
    results = Path(trackers["results"])
    name = (Path(folder).relative_to(results) / kind).as_posix()
    run = TrackedRun(name, kind, trackers["project"], results / "trackers")
    reporter = Reporter(run, trackers["report_to"], trackers["logging_steps"], kept)
    try:
        yield reporter
    finally:
        reporter.close()


class _TensorBoard:
    has = -1  # of the steps that were reported, the last that a tracker has: here all are written anew

    def __init__(self, run: TrackedRun):
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard" / run.name
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _MLflow:
    def __init__(self, run: TrackedRun):
        import mlflow

        self.mlflow = mlflow
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", run.project))
        self.has = run.last if "mlflow" in run.ids else -1
        tags = {"group": run.group, "kind": run.kind}
        begun = mlflow.start_run(run_id=run.ids.get("mlflow"), run_name=run.name, tags=tags)
        run.ids["mlflow"] = begun.info.run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.mlflow.log_metrics(dict(metrics), step=step, synchronous=True)

    def close(self) -> None:
        self.mlflow.end_run()


class _Wandb:
    has = -1  # it ignores steps that it has, and of an offline run that was killed it may have none

    def __init__(self, run: TrackedRun):
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.project),
            id=run.ids.setdefault("wandb", uuid.uuid4().hex),
            name=run.name,
            group=run.group,
            job_type=run.kind,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class _Trackio:
    def __init__(self, run: TrackedRun):
        import trackio

        self.trackio = trackio
        begun = trackio.init(
            run.project,
            run.name,
            run.group,
            resume="allow" if "trackio" in run.ids else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        run.ids["trackio"] = run.name
        self.has = getattr(begun, "_next_step", 0) - 1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        self.trackio.finish()


TRACKERS = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb, "trackio": _Trackio}
