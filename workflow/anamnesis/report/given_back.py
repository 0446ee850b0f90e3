"""The report's section on what the instruction vector of the model before training gives back."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from anamnesis.report.builder import Section, Table, picture
from anamnesis.report.sentences import FEW, percent, points
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.printed import difference_cell
from anamnesis.stats.vector_recovery import MEAN

NOTE = (
    "Lost: accuracy before training − after the last stage, zero-shot. Gain: accuracy with a vector added − "
    "without, chain by chain. Both in points, with {confidence:g} % intervals over orders and seeds (n: "
    "chains)."
)
_HEADER = ["Method", "Set", "Before", "After", "+ θ", "+ random", "Lost", "Gain of θ", "Gain of random"]


def recovery_section(gains: pd.DataFrame, png: str | Path, caption: str = "") -> Section:
    """``gains``: ``stats.vector_recovery.recovery_gain``; ``png``: the figure, with its PDF and the CSV
    files beside it.
    """
    alt = "Accuracy before and after training with vectors added, a row per method and a panel per set"
    rows = [
        [
            row["method"],
            row["set"],
            *(percent(row[key]) for key in ("before", "after", "added", "random")),
            *(_difference(row, key) for key in ("lost", "gain", "random_gain")),
        ]
        for _, row in gains.iterrows()
    ]
    return Section(
        "Do the vectors give anything back?",
        tables=[Table(_HEADER, rows, NOTE.format(confidence=100 * gains["confidence"].iloc[0]))],
        pictures=[picture(png, alt, caption, recovery_sentences(gains))],
    )


def recovery_sentences(gains: pd.DataFrame) -> list[str]:
    """On average over the sets: how much accuracy was lost, what θ gives back and what a random vector does;
    for each method, or, of more than ``sentences.FEW``, for all together.
    """
    means = gains[gains["set"] == MEAN] if (gains["set"] == MEAN).any() else gains
    sets = max(1, gains["set"].nunique() - 1)
    if len(means) > FEW:
        return _all_methods(means, sets)
    return [sentence for row in means.itertuples() for sentence in _one_method(row, sets)]


def _one_method(row, sets: int) -> list[str]:
    where = f"on average over {sets} sets" if row.set == MEAN else f"on {row.set}"
    return [
        f"{row.method}, {where}: zero-shot accuracy was {percent(row.before)} before training and is "
        f"{percent(row.after)} after the last stage ({points(-row.lost)}).",
        f"The vector of the model before training changes that by {_with_interval(row, 'gain')}.",
        f"A random vector of equal norm changes it by {_with_interval(row, 'random_gain')}.",
    ]


def _all_methods(means: pd.DataFrame, sets: int) -> list[str]:
    where = f"On average over {sets} sets" if (means["set"] == MEAN).all() else f"On {means['set'].iloc[0]}"
    raised, sure = int((means["gain"] > 1e-9).sum()), int((means["gain_low"] > 0).sum())  # but for rounding
    return [
        f"{where}, zero-shot accuracy was {percent(means['before'].iloc[0])} before training and lies "
        f"between {percent(means['after'].min())} and {percent(means['after'].max())} after the last stage.",
        f"The vector of the model before training raises it for {raised} of "
        f"{len(means)} methods, for {sure} of them by an interval above zero, and changes it by "
        f"{points(means['gain'].min())} to {points(means['gain'].max())}; a random vector of equal norm by "
        f"{points(means['random_gain'].min())} to {points(means['random_gain'].max())}.",
    ]


def _with_interval(row, key: str) -> str:
    """The mean of differences in points, with its interval and what that allows to be said."""
    low, high = getattr(row, f"{key}_low"), getattr(row, f"{key}_high")
    counted = f"n\u00a0=\u00a0{row.n} chain{'s' * (row.n != 1)}"
    if math.isnan(low):
        return f"{points(getattr(row, key))} ({counted}, no interval)"
    said = "the interval excludes zero"
    if low <= 0 <= high:
        said = "the interval contains zero, so no effect is shown"
    elif row.n < MINIMUM_PAIRS:
        said += f", which is weak evidence from {row.n} chains"
    covered = f"{100 * row.confidence:g}\u00a0% interval {points(low)} to {points(high)}"
    return f"{points(getattr(row, key))} ({covered}, {counted}): {said}"


def _difference(row: pd.Series, key: str) -> str:
    return difference_cell(
        pd.Series({"mean": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"], "n": row["n"]})
    )
