"""What notes and records say of a finished experiment: what its jobs read and wrote, when, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from anamnesis.config.layout import Layout
from anamnesis.config.models import Config
from anamnesis.core.artifacts import read_json
from anamnesis.core.errors import UserError
from anamnesis.core.integrity import Note, fault_of, notes_below


@dataclass(frozen=True)
class Run:
    """A finished experiment: its configuration, and the notes of all jobs that its tables, figures and report
    are made from.
    """

    config: Config
    places: Layout
    notes: Sequence[Note] = field(repr=False)

    @cached_property
    def written(self) -> dict[str, Note]:
        """The results, and the notes of the jobs that wrote them."""
        return {path: note for note in self.notes for path in note.written}

    @cached_property
    def inputs(self) -> dict[str, list]:
        """Files that no job has written -> size, SHA-256, time."""
        read = {path: states for note in self.notes for path, states in note.read.items()}
        return {
            str(Path(path, name)): state
            for path, states in sorted(read.items())
            if path not in self.written
            for name, state in states.items()
        }

    @cached_property
    def records(self) -> list[tuple[Mapping[str, Any], float]]:
        """The record of each job that has one, and when it was written, in seconds since 1970."""
        written = [
            (Path(path), states["."][2] / 1e9)
            for note in self.notes
            for path, states in note.written.items()
            if path.endswith(".json") and "." in states
        ]
        read = [(read_json(path), ended) for path, ended in written]
        return [(record, ended) for record, ended in read if "versions" in record]

    def began(self) -> str:
        return _moment(min(ended - record["seconds"] for record, ended in self.records))

    def ended(self) -> str:
        return _moment(max(ended for _, ended in self.records))

    def software(self) -> dict[str, set[str]]:
        """Packages and Python -> the versions that jobs ran with."""
        found: dict[str, set[str]] = {}
        for record, _ in self.records:
            for name, version in {**record["versions"], "python": record["python"]}.items():
                if version:
                    found.setdefault(name, set()).add(version)
        return dict(sorted(found.items()))

    def commits(self) -> list[str]:
        return sorted({record["git_commit"] for record, _ in self.records if record.get("git_commit")})


def finished_run(config: Config) -> Run:
    """Raises UserError where the report (of pooled chains alone: the table) is not made yet, and for a result
    that is not what was written.
    """
    places = Layout(config)
    by_path = {path: note for note in notes_below(places.results) for path in note.written}
    last = places.report if config.training.seeds else places.experiment / "table1.csv"
    if str(last) not in by_path:
        raise UserError(f"{last} is not there: finish the run, then describe it")
    waiting = [path for path in by_path if Path(path).parent in (places.experiment, places.figures)]
    needed: dict[Path, Note] = {}
    while waiting:
        note = by_path.get(waiting.pop())
        if note and note.file not in needed:
            needed[note.file] = note
            waiting += note.read
    for note in needed.values():
        for path, states in note.written.items():
            if fault := fault_of(path, states):
                raise UserError(f"{path} is not what was written ({fault}): run the experiment again")
    return Run(config, places, sorted(needed.values(), key=lambda note: note.file))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
