"""What the data say of a claim, in the same words everywhere, and frames as tables of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from anamnesis.report.builder import Table

ANSWERS = {True: "The data support", False: "The data do not support", None: "The data are too few to say"}


def answer(claim: str, holds: bool | None, why: str = "") -> str:
    """A sentence. ``claim`` begins with "that"; ``holds`` None: undecided; ``why``: ends the sentence."""
    return f"{ANSWERS[holds]} {claim}{f' ({why})' if why else ''}."


def above_zero(low: float, high: float, negligible: float = 0.0) -> bool | None:
    """Whether a difference is above zero by its interval: True, False (it ends below ``negligible``) or None,
    also where there is no interval.
    """
    return True if low > 0 else False if high < negligible else None


def frame_table(
    frame: pd.DataFrame, columns: Mapping[str, Callable[[Any], object]], caption: str, folded: bool = False
) -> Table:
    """A row of text for every row of ``frame``. ``columns``: heading -> function of a named tuple."""
    rows = [[cell(row) for cell in columns.values()] for row in frame.itertuples()]
    return Table(list(columns), rows, caption, folded=folded)


def with_interval(value: float, low: float, high: float, form: str = "+.2f", scale: float = 1.0) -> str:
    """ "+1.25 [+0.75, +1.75]", all times ``scale``; the value alone where there is no interval."""
    if math.isnan(value):
        return "–"
    shown, *ends = (f"{scale * number:{form}}".replace("-", "−") for number in (value, low, high))
    return shown if math.isnan(low) else f"{shown}\u00a0[{ends[0]},\u00a0{ends[1]}]"
