"""Accuracy with and without the instruction vector, in seven conditions (figure 4 of arXiv 2406.12227)."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from anamnesis.analyses.checkpoints.tables import condition_table
from anamnesis.figures.panels import check, grid, method_key, per_cent, point_key, title
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.summary import BASELINE


def conditions(frame: pd.DataFrame) -> Figure:
    """One panel per set: a bar for each condition (a) to (g), the last two for each method.

    Parameters
    ----------
    frame : ``set, letter, condition, method, accuracy, low, high, random, n``
        (``checkpoints.tables.condition_table``).

    Whiskers: the interval ``low`` to ``high`` over examples. Hatched bars have a vector added or removed, and
    a cross where a random one of equal norm leads.
    Raises UserError for an empty frame or a missing column.
    """
    check(
        frame,
        ["set", "letter", "condition", "method", "accuracy", "low", "high", "random", "n"],
        "table of conditions",
    )
    sets, methods = list(frame["set"].unique()), [m for m in frame["method"].unique() if m]
    columns = 2 if len(sets) in (2, 4) else min(len(sets), 3)
    rows = math.ceil(len(sets) / columns)
    names = frame.drop_duplicates("letter").sort_values("letter")
    with styled():
        figure = new_figure(1.7 * rows + 0.95)
        panels = grid(figure, len(sets), columns, sharey=True)
        for name, axes in zip(sets, panels.flat, strict=False):
            _draw(axes, frame[frame["set"] == name], methods)
        for axes in panels[:, 0]:
            axes.set_ylabel("Accuracy (%)")
        letters = [f"({row.letter}) {row.condition}" for row in names.itertuples()]
        figure.supxlabel("\n".join("    ".join(part) for part in (letters[:4], letters[4:])), fontsize=7)
        cross = point_key("random vector of equal norm", "x", color=INK, markersize=4)
        bar = Patch(facecolor=MUTED, hatch="////", edgecolor="white", linewidth=0, label="θ added or removed")
        figure.legend(
            handles=[*method_key([BASELINE, *methods]), bar, cross], loc="outside upper center", ncols=5
        )
    return figure


def draw(frame: pd.DataFrame) -> Drawn:
    """From the table of all checkpoints."""
    data = condition_table(frame)
    return Drawn(conditions(data), data)


def _draw(axes: Axes, data: pd.DataFrame, methods: list[str]) -> None:
    title(axes, data["set"].iloc[0], 30)
    axes.set_title(f"n = {data['n'].min()}", loc="right", fontsize=6.5)
    per_cent(axes)
    letters = sorted(data["letter"].unique())
    for row in data.itertuples():
        own = bool(row.method)
        width = 0.76 / len(methods) if own else 0.6
        at = letters.index(row.letter) + ((methods.index(row.method) + 0.5) * width - 0.38 if own else 0.0)
        colour = method_colour(row.method or BASELINE, methods)
        axes.bar(
            at, 100 * row.accuracy, 0.92 * width, color=colour, alpha=0.85,
            hatch="////" if row.letter in "ceg" else None, edgecolor="white", linewidth=0,
        )  # fmt: skip
        low, high = 100 * max(0.0, row.accuracy - row.low), 100 * max(0.0, row.high - row.accuracy)
        axes.errorbar(at, 100 * row.accuracy, [[low], [high]], color=INK, elinewidth=0.7, capsize=1.6)
        axes.plot(at, 100 * row.random, marker="x", markersize=3.6, markeredgewidth=0.9, color=INK, zorder=5)
    axes.set_xticks(range(len(letters)), [f"({letter})" for letter in letters])
    axes.tick_params(axis="x", length=0)
