"""What the functions of a study are given, checked: a mistake is one line that names it."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import Any

from anamnesis.core.errors import UserError, show_value


def whole_number(name: str, value: Any, least: int) -> int:
    """``value``, of Python, NumPy or torch, as an int. Raises UserError for others and below ``least``."""
    number = _index(value)
    if number is None or number < least:
        raise UserError(f"{name} is {show_value(value)}: give a whole number, {least} or more")
    return number


def whole_numbers(name: str, given: Any, meant: str = "one whole number or several") -> list[int]:
    """One number or several as a list; negative ones too. Raises UserError, which says what is ``meant``."""
    if (number := _index(given)) is not None:
        return [number]
    try:
        found = [None] if isinstance(given, str) else [_index(part) for part in given]
    except TypeError:  # not of several parts
        found = [None]
    numbers = [number for number in found if number is not None]
    if len(numbers) < len(found):
        raise UserError(f"{name} is {show_value(given)}: give {meant}")
    return numbers


def real_number(name: str, value: Any) -> float:
    """Raises UserError for what is no number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise UserError(f"{name} is {show_value(value)}: give a number")
    return float(value)


def head_list(name: str, given: Any) -> list[tuple[int, int]]:
    """Heads as (layer, head). Raises UserError where one is no such pair or stands twice, and for none."""
    meant = "(layer, head) pairs such as [(17, 1)], one or more"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(f"{name} is {show_value(given)}: give {meant}")
    pairs = [tuple(whole_numbers(name, pair, meant)) for pair in given]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{name} is {show_value(given)}: give {meant}")
    if len({*pairs}) < len(pairs):
        twice = next(pair for pair in pairs if pairs.count(pair) > 1)
        raise UserError(f"{name} has {twice} twice: name each head once")
    return [(layer, head) for layer, head in pairs]


def pair_list(name: str, given: Any) -> list[tuple[str, str]]:
    """The (input, answer) pairs of the task ``name``. Raises UserError for what is no pair of texts."""
    pairs: list[tuple[str, str]] = []
    for number, pair in enumerate(given if isinstance(given, Iterable) else [given]):
        parts = [pair] if isinstance(pair, str) or not isinstance(pair, Iterable) else [*pair]
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise UserError(
                f"task '{name}', pair {number}: {show_value(pair)} is not (input, answer), two texts"
            )
        pairs.append((parts[0], parts[1]))
    return pairs


def _index(value: Any) -> int | None:
    """A whole number as an int, None for anything else; True and False count as something else."""
    try:
        return None if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")) else index(value)
    except TypeError:
        return None
