"""Shift on the new task against what held-out sets have lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from anamnesis.analyses.measured import PLACE
from anamnesis.analyses.shift.tables import SHIFTS, shift_correlations
from anamnesis.figures.panels import check, method_key
from anamnesis.figures.style import MUTED, Drawn, method_colour, new_figure, styled


def draw(frame: pd.DataFrame, statistics: Mapping[str, Any]) -> Drawn:
    """From the table of all stages; ``statistics``: of the intervals."""
    return Drawn(shift(frame, statistics["bootstrap_resamples"], statistics["confidence"]), frame)


def shift(frame: pd.DataFrame, resamples: int, confidence: float) -> Figure:
    """A panel per kind of shift (nats, logarithmic): accuracy lost (points) against it, a point per chain and
    stage, the stage's number beside it.

    ``frame``: of ``shift.tables.tabulate``. Raises UserError for an empty frame or a missing column.
    """
    check(frame, [*PLACE, *SHIFTS, "forgotten"], "table of shifts")
    methods = list(frame["method"].unique())
    with styled():
        figure = new_figure(2.9)
        found = shift_correlations(frame, resamples, confidence).set_index("kind")
        for (kind, words), axes in zip(SHIFTS.items(), figure.subplots(1, 2, sharey=True), strict=True):
            for row in frame.itertuples():
                at, colour = (getattr(row, kind), 100 * row.forgotten), method_colour(row.method, methods)
                axes.plot(*at, "o", color=colour, markersize=4, alpha=0.85)
                axes.annotate(str(row.stage), at, xytext=(3, 2), textcoords="offset points", fontsize=6)
            axes.axhline(0, color=MUTED, linewidth=0.6, zorder=1)
            axes.set_xscale("log")
            # a range of less than a decade has no label of its own in plain numbers
            for axis_ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
                axis_ticks(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 1)))
            axes.set_xlabel(f"KL($M_0$ ‖ $M_t$) {words} (nats)")
            axes.set_title(_said(found.loc[kind]))
        figure.axes[0].set_ylabel("Held-out accuracy lost (points)")
        figure.legend(handles=method_key(methods), loc="outside lower center", ncols=6)
    return figure


def _said(row: pd.Series) -> str:
    if np.isnan(row["spearman"]):
        return f"ρ not defined, n = {row['n']:.0f}"
    return f"ρ = {row['spearman']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}], n = {row['n']:.0f}".replace(
        "-", "−"
    )
