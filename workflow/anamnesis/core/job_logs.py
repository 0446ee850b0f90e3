"""The lines in the log of a job: how they are written, and how they are read again."""

from __future__ import annotations

import re
from datetime import datetime

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ERROR = re.compile(r"^\S+ \S+ ERROR \S+: (.*)$", flags=re.MULTILINE)


def last_error(text: str) -> str | None:
    """The message of the last error in a log; None when it has none."""
    found = ERROR.findall(text)
    return found[-1] if found else None


def first_time(text: str) -> float | None:
    """When the first line of a log was written, in seconds since 1970; None when it has no whole line."""
    try:
        return datetime.strptime(text[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    except ValueError:
        return None
