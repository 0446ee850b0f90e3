"""What ``make run`` shows of a run: one line for each finished job, with the time left, and at the end why
jobs failed. Snakemake finds this package by its name (``--logger anamnesis``) and writes its own, longer log
to ``.snakemake/log`` all the same.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from anamnesis.core.job_logs import last_error
from anamnesis.core.progress import duration

NUMBERED = ("order", "seed", "stage")  # wildcards whose values say nothing without their names
FIRST = "first_table"  # the rule of the first result, of which a reader wants to know when it came
NOTHING_TO_DO = "Nothing to be done"
# Snakemake's words for what the lines at the end say better
REPEATED = ("Look above for error messages", "At least one job did not complete successfully")


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Rule and wildcards in one line: "train_stage inclora order 1 seed 0 stage 2"."""
    values = (f"{name} {value}" if name in NUMBERED else str(value) for name, value in wildcards.items())
    return " ".join([rule, *values])


def reason_of(logs: Sequence[str]) -> str:
    """Why a job ended, from its logs."""
    for log in map(Path, logs):
        with suppress(OSError):
            if reason := last_error(log.read_text(encoding="utf-8", errors="replace")):
                return reason
    return f"it ended without a word; log: {', '.join(logs)}"


class Lines:
    """The lines that the events of a run are worth."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.rules: dict[int, str] = {}
        self.started: dict[int, float] = {}
        self.seconds: dict[str, list[float]] = {}
        self.waiting: Counter[str] = Counter()
        self.frequent: set[str] = set()
        self.begun, self.total, self.done, self.busy = 0.0, 0, 0, 0.0
        self.failed: dict[str, str] = {}

    def of(self, record: logging.LogRecord) -> Iterator[str]:
        """The lines of one event."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            yield from self._run(record)
        elif event == LogEvent.JOB_INFO:
            self.names[record.jobid] = job_name(record.rule_name, record.wildcards)
            self.rules[record.jobid] = record.rule_name
            self.started[record.jobid] = record.created
        elif event == LogEvent.JOB_FINISHED:
            yield self._finished(record.job_id, record.created)
        elif event == LogEvent.JOB_ERROR:
            name = self.names.get(record.jobid, record.rule_name)
            self.failed[name] = reason_of(record.log)
            yield f"failed: {name}"
        elif event is None or event == LogEvent.ERROR:
            yield from self._message(record)

    def _run(self, record: logging.LogRecord) -> Iterator[str]:
        stats = {rule: count for rule, count in record.stats.items() if rule != "total"}
        if self.total:  # a plan has its table a second time, at its end
            return
        self.waiting, self.total, self.begun = Counter(stats), sum(stats.values()), record.created
        self.frequent = {rule for rule, count in stats.items() if count == max(stats.values())}
        yield f"{self.total} jobs: " + ", ".join(f"{count} {rule}" for rule, count in stats.items())

    def _finished(self, number: int, now: float) -> str:
        rule = self.rules[number]
        took = now - self.started.pop(number, now)
        self.seconds.setdefault(rule, []).append(took)
        self.waiting[rule] -= 1
        self.done += 1
        self.busy += took
        left = self._left(now)
        line = f"{self.done:>{len(str(self.total))}}/{self.total}  {self.names[number]}: {duration(took)}"
        if rule == FIRST:
            line += f", {duration(now - self.begun)} after the start"
        return line + (f", about {duration(left)} left" if left else "")

    def _left(self, now: float) -> float | None:
        """Seconds until the last job has ended, if as many run at once as so far; None as long as no job of a
        rule with the most jobs has ended: the first ones are short.
        """
        left = +self.waiting
        if not left or not self.frequent & self.seconds.keys():
            return None
        other = mean(seconds for rule in self.seconds for seconds in self.seconds[rule])
        typical = {rule: mean(self.seconds.get(rule, [other])) for rule in left}
        work = sum(count * typical[rule] for rule, count in left.items())
        work -= sum(min(now - begun, typical[self.rules[job]]) for job, begun in self.started.items())
        at_once = max(1.0, self.busy / max(now - self.begun, 1e-9))
        return max(0.0, work) / at_once

    def _message(self, record: logging.LogRecord) -> Iterator[str]:
        """Warnings, errors, and what this project's own rules say; not what Snakemake says of itself."""
        said = record.getMessage()
        of_snakemake = "snakemake" in Path(record.pathname).parts and record.levelno < logging.WARNING
        if said.startswith(NOTHING_TO_DO) or not (of_snakemake or any(part in said for part in REPEATED)):
            yield said

    def end(self) -> Iterator[str]:
        """Why jobs failed: the last lines of a run."""
        for name, reason in self.failed.items():
            yield f"{name}: {reason}"


class LogHandler(LogHandlerBase):
    """Writes :class:`Lines` to the terminal."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.lines = Lines()
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.lines.of(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._write(self.lines.end())
        self.lines.failed.clear()  # Python closes handlers once more as it ends
        super().close()

    def _write(self, lines: Iterator[str]) -> None:
        for line in lines:
            print(line, file=self.stream, flush=True)
