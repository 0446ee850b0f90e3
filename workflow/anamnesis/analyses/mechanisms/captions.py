"""One sentence per figure, with the numbers measured; nothing is assumed about which way they go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anamnesis.analyses.mechanisms.comparison import OUTCOMES, PREDICTORS
from anamnesis.analyses.mechanisms.last_stage import MEASURES, SHARES
from anamnesis.stats.intervals import MINIMUM_PAIRS

SHOWN = {
    "interference": ("cosine", "conflicts", "conflicting_heads"),
    "drift": ("cka", "rotation"),
    "landscape": ("trained_ratio", "base_ratio", "trained_trace_ratio", "base_trace_ratio"),
    "disruption": ("output_heads", "output_heads_low", "attention_heads", "routing"),
}
_WHAT = {
    "interference": "Gradient interference, mean over stages and the tasks learnt before them",
    "drift": "Drift of the representations at the last prompt token after the last stage",
    "landscape": "Loss of the first task",
    "disruption": "Heads at the last prompt token after the last stage, against the model before training",
}


def measure_caption(figure: str, comparison: pd.DataFrame) -> str:
    """What a figure of measures shows, method by method, and what guidance changes. ``comparison``: of
    ``summary.compared``.
    """
    parts = []
    for measure in SHOWN[figure]:
        rows = comparison[(comparison["measure"] == measure)]
        levels = [
            f"{_number(row.mean, measure)} with {row.method} (n = {row.n})"
            for row in rows[rows["kind"] == "level"].itertuples()
        ]
        if levels:
            text = f"{MEASURES[measure]}: {listed(levels)}"
            parts.append(text + "".join(_difference(row, measure) for row in _differences(rows)))
    return f"{_WHAT[figure]}. " + "; ".join(parts) + "."


def _differences(rows: pd.DataFrame) -> list:
    return [row for row in rows[(rows["kind"] == "difference") & (rows["n"] > 0)].itertuples()]


def _difference(row, measure: str) -> str:
    said = f", {row.method} {_number(row.mean, measure, '+')}"
    if not np.isnan(row.low):
        low, high = (_number(value, measure, "+") for value in (row.low, row.high))
        said += f" [{low}, {high}]"
    weak = " pairs, weak evidence" if row.n < MINIMUM_PAIRS else " pairs"
    return f"{said} against its plain twin ({row.n}{weak})"


def _number(value: float, measure: str, sign: str = "") -> str:
    if np.isnan(value):
        return "–"
    if measure in SHARES:
        return f"{100 * value:{sign}.1f} {'points' if sign else '%'}".replace("-", "−")
    return f"{value:{sign}.3g}".replace("-", "−")


def predictors_caption(associations: pd.DataFrame, outcome: str = "loss_rise") -> str:
    """Which predictor goes along most with forgetting, and of which the interval excludes zero."""
    rows = associations[(associations["sets"] == "all") & (associations["outcome"] == outcome)]
    rows = rows.dropna(subset=["pearson"])
    start = f"What a stage takes from a set, as {OUTCOMES[outcome]}, against what may predict it. "
    if rows.empty:
        return start + "Too few rows for a correlation."
    best = rows.loc[rows["pearson"].abs().idxmax()]
    sure = rows[(rows["pearson_low"] > 0) | (rows["pearson_high"] < 0)]
    said = (
        f"Strongest: {PREDICTORS[best['predictor']]}, r = {best['pearson']:+.2f} "
        f"[{best['pearson_low']:+.2f}, {best['pearson_high']:+.2f}] (n = {best['n']}). "
    )
    names = [f"{PREDICTORS[row.predictor]} ({row.pearson:+.2f})" for row in sure.itertuples()]
    said += f"Intervals without zero: {listed(names) if names else 'none'} of {len(rows)}. "
    said += "Rows of one chain are not independent, so the intervals are too narrow."
    return start + said.replace("-0", "−0")


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
