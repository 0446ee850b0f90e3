"""Progress of long work, as lines in the log of its job. ``anamnesis watch`` reads them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 5
LINE = re.compile(
    rf"{re.escape(__name__)}: (?P<what>.+): (?P<done>\d+) of (?P<total>\d+)(?:, (?P<note>.+))?$",
    flags=re.MULTILINE,
)
"""Finds a line in a log."""

log = logging.getLogger(__name__)


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[..., None]]:
    """Yields a function that takes the number of items just done and, if there is one, a note such as
    "loss 0.31".
    """
    done, last_note, last_line = 0, "", time.monotonic()

    def write() -> None:
        log.info("%s: %d of %d%s", what, done, total, last_note and f", {last_note}")

    def advance(more: int, note: str = "") -> None:
        nonlocal done, last_note, last_line
        done, last_note = done + more, note
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            write()

    write()
    yield advance
    write()


def duration(seconds: float) -> str:
    """Seconds in words of one or two units: "38 s", "6 min", "2 h 05 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
