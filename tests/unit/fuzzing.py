"""Damaged input for the tests: how it is made, and what may come of it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from anamnesis.core.errors import LONGEST_MESSAGE, UserError


def tries(count: int):
    """``count`` inputs, always the same ones."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(function, *arguments, **named):
    """What comes back, or the UserError, of which this checks that it is one printable line."""
    try:
        return function(*arguments, **named)
    except UserError as error:
        message = str(error)
        assert message.isprintable(), message
        assert 10 < len(message) <= LONGEST_MESSAGE + 10
        return error


def refused(function, *arguments, **named) -> str:
    found = outcome(function, *arguments, **named)
    assert isinstance(found, UserError), found
    return str(found)


@st.composite
def damage(draw, content: bytes) -> bytes:
    """``content`` with bits flipped, or bytes cut off, overwritten, inserted, removed or repeated."""
    kind = draw(st.sampled_from(["flip", "cut", "overwrite", "insert", "remove", "repeat"]))
    start = draw(st.integers(0, len(content) - 1))
    end = min(len(content), start + draw(st.integers(1, 40)))
    if kind == "flip":
        changed = bytearray(content)
        for place in [start, *draw(st.lists(st.integers(0, len(content) - 1), max_size=3))]:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    if kind == "cut":
        return content[:start]
    new = {"remove": b"", "repeat": content[start:end] * 2}.get(kind) or (
        draw(st.binary(min_size=1, max_size=40)) if kind != "remove" else b""
    )
    return content[:start] + new + content[start if kind == "insert" else end :]
