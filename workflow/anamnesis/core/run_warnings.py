"""What the libraries, and we, have warned about in the jobs of an experiment: read from the jobs' notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from anamnesis.core.errors import UserError
from anamnesis.core.integrity import ENDING, Note


def run_warnings(suite: Path) -> list[tuple[str, list[str]]]:
    """(text, names of the jobs) of every distinct warning that may concern a result: the most frequent first.

    ``suite``: the folder of the experiment's results; those it shares with others count too.
    """
    jobs_of: dict[str, list[str]] = {}
    for note in _notes(Path(suite)):
        for text in note.warnings:
            jobs_of.setdefault(text, []).append(note.job)
    return sorted(
        ((text, sorted(jobs)) for text, jobs in jobs_of.items()), key=lambda pair: (-len(pair[1]), pair[0])
    )


def in_jobs(jobs: list[str]) -> str:
    """The jobs of a warning in a few words."""
    others = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    return f"{jobs[0]}{others}"


def _notes(suite: Path) -> Iterator[Note]:
    model, results = suite.parent, suite.parent.parent
    files = list((results / "models").glob(f".{model.name}*{ENDING}"))
    for folder in (results / "tasks", model / "vectors", model / "tuned", suite):
        files += folder.rglob(f".*{ENDING}")
    for file in sorted(files):
        with suppress(UserError):  # a damaged one; the next run sets its result aside
            yield Note.load(file)
