"""Errors a user can act on: one line that names the thing, its value, what is allowed and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: configuration, data, a file or the machine. The message is one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def nearest(value: object, allowed: Iterable[object]) -> str | None:
    """The allowed name closest to ``value``, or None when nothing is close."""
    matches = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, value: object, allowed: Iterable[object]) -> UserError:
    """The error for a name that does not exist, with the nearest one and the whole list.

    >>> str(unknown("task", "antonim", ["antonym", "plural"]))
    "unknown task 'antonim': did you mean 'antonym'? (allowed: antonym, plural)"
    """
    names = [str(a) for a in allowed]
    close = nearest(value, names)
    hint = f"did you mean '{close}'? " if close else ""
    return UserError(f"unknown {kind} '{value}': {hint}(allowed: {', '.join(names)})")
