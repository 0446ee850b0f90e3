"""Errors a user can act on: one line that names the thing, its value, what is allowed and the remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import TypeVar

LONGEST_MESSAGE = 4000  # characters; the middle of a longer one is left out
LONGEST_VALUE = 60
T = TypeVar("T")


class UserError(ValueError):
    """Something the user can fix: configuration, data, a file or the machine. The message is one line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: object) -> str:
    """``text`` as one line that is safe to print whatever it quotes: white space becomes a blank, and what
    cannot be printed (control characters, which a terminal would obey; half a surrogate pair, which no file
    takes) is written as an escape.
    """
    line = " ".join(str(text).split())
    if len(line) > LONGEST_MESSAGE:
        line = f"{line[: LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2 :]}"
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def first_line(error: BaseException) -> str:
    """The first line of an error's message or, without one, its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def show_value(value: object) -> str:
    """``value`` as Python writes it, cut to a length that fits in a message; no cost grows with it."""
    return shorten(_SHORT.repr(value))


def shorten(text: str, longest: int = LONGEST_VALUE) -> str:
    """``text``, cut to a length that fits in a message."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def given(value: T | None, what: str) -> T:
    """``value``; ValueError, with ``what`` it is, where the caller has left out what is needed here."""
    if value is None:
        raise ValueError(f"{what} is needed here, and was not given")
    return value


class _Short(reprlib.Repr):
    """Reads no more of a value than it shows: a value may contain itself, or be of any size."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxother = 3, LONGEST_VALUE + 1
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = LONGEST_VALUE // 3

    def repr_str(self, value: str, level: int) -> str:
        return repr(value[: LONGEST_VALUE + 1])

    def repr_int(self, value: int, level: int) -> str:
        digits = value.bit_length() * 3 // 10
        return repr(value) if digits < LONGEST_VALUE else f"an integer of about {digits} digits"

    def repr_dict(self, value: dict, level: int) -> str:
        if level <= 0:
            return "{...}"
        shown = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in _first(value.items())]
        return "{" + ", ".join(shown + ["..."] * (len(value) > len(shown))) + "}"


def _first(items: Iterable) -> list:
    return [item for item, _ in zip(items, range(LONGEST_VALUE // 3), strict=False)]


_SHORT = _Short()


def nearest(value: object, allowed: Iterable[object]) -> str | None:
    """The allowed name closest to ``value``, or None when nothing is close."""
    if not isinstance(value, str) or len(value) > 2 * LONGEST_VALUE:
        return None
    matches = difflib.get_close_matches(value, [str(a) for a in allowed], n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, value: object, allowed: Iterable[object]) -> UserError:
    """The error for a name that does not exist, with the nearest one and the whole list.

    >>> str(unknown("task", "antonim", ["antonym", "plural"]))
    "unknown task 'antonim': did you mean 'antonym'? (allowed: antonym, plural)"
    """
    names = [str(a) for a in allowed]
    close = nearest(value, names)
    hint = f"did you mean '{close}'? " if close else ""
    shown = shorten(value if isinstance(value, str) else show_value(value))
    return UserError(f"unknown {kind} '{shown}': {hint}(allowed: {', '.join(names)})")
