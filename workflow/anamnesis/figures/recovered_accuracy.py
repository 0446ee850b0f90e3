"""What the instruction vector of the model before training gives back after training (after figure 7 of arXiv
2406.12227): all chains, at the layer chosen before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.figures.measures import offsets
from anamnesis.figures.panels import DOTTED, check, grid, rows_by_name, title
from anamnesis.figures.style import CONDITION_COLOURS, MUTED, Drawn, new_figure, styled
from anamnesis.stats.summary import BASELINE
from anamnesis.stats.vector_recovery import COLUMNS, chain_accuracies, recovery_frame, recovery_gain

_PLACES = {"none": -0.24, "add": 0.0, "random": 0.24}  # of a method's rows, downwards
_NAMES = {
    "none": "zero-shot, nothing added",
    "add": "+ θ of the model before training",
    "random": "+ random vector of equal norm",
}
_ACROSS = 4  # panels side by side
_ROW, _AROUND = 0.36, 0.45  # inches: a method, the title and the axis of a row of panels
_LEAST_CHAINS = 3  # with two, Student's interval is wider than any panel


def vector_recovery(frame: pd.DataFrame, resamples: int = 10_000, confidence: float = 0.95) -> Figure:
    """One panel per set, and one for their mean; a row for the model before training and for each method.

    Parameters
    ----------
    frame : ``method, order, seed, set, condition, layer, accuracy, n``
        (``stats.vector_recovery.recovery_frame``).
    resamples, confidence : of the intervals (``stats.intervals.paired_interval``).

    Dots are means over chains, circles are chains. The line through + θ is the interval of the paired gain
    over the chains, drawn from three chains on. Dotted: zero-shot before training. Raises UserError for an
    empty frame or a missing column.
    """
    check(frame, COLUMNS, "table of accuracy with vectors")
    accuracies, gains = chain_accuracies(frame), recovery_gain(frame, confidence, resamples)
    sets, methods = list(accuracies["set"].unique()), list(accuracies["method"].unique())
    columns = min(len(sets), _ACROSS)
    rows = math.ceil(len(sets) / columns)
    with styled():
        figure = new_figure(rows * (_AROUND + _ROW * len(methods)) + 0.55)
        panels = grid(figure, len(sets), columns, sharex=True, sharey=True)
        for place, (name, axes) in enumerate(zip(sets, panels.flat, strict=False)):
            _draw(axes, accuracies[accuracies["set"] == name], gains[gains["set"] == name], methods)
            title(axes, name, 88 // columns)
            axes.set_xlabel("Accuracy (%)" if place + columns >= len(sets) else "", labelpad=1)
            axes.tick_params(labelbottom=place + columns >= len(sets))
        figure.legend(handles=_key(frame, confidence), loc="outside lower center", ncols=3)
    return figure


def draw(
    recovered: Sequence[pd.DataFrame], interventions: Sequence[pd.DataFrame], statistics: Mapping[str, Any]
) -> Drawn:
    """With the table of gains. ``recovered``: tables of the rule recover; ``interventions``: tables of the
    same sets before training; ``statistics``: of the intervals.
    """
    after, before = (pd.concat(frames, ignore_index=True) for frames in (recovered, interventions))
    data = recovery_frame(after, before)
    resamples, confidence = statistics["bootstrap_resamples"], statistics["confidence"]
    return Drawn(
        vector_recovery(data, resamples, confidence), data, [recovery_gain(data, confidence, resamples)]
    )


def _draw(axes: Axes, chains: pd.DataFrame, gains: pd.DataFrame, methods: list[str]) -> None:
    before = chains.loc[chains["method"] == BASELINE, "none"]
    axes.axvline(100 * before.mean(), color=MUTED, linestyle=DOTTED, linewidth=1.0, zorder=1)
    for row, method in enumerate(methods):
        own = chains[chains["method"] == method]
        for condition, shift in _PLACES.items():
            colour, y = CONDITION_COLOURS[condition], row + shift
            if len(own) > 1:
                places, circles = y + offsets(len(own), 0.12), {"color": "white", "edgecolors": colour}
                axes.scatter(100 * own[condition], places, s=5, linewidths=0.6, zorder=2, **circles)
            axes.plot([100 * own[condition].mean()], [y], "o", color=colour, markersize=4, zorder=4)
    for gain in gains[gains["n"] >= _LEAST_CHAINS].itertuples():
        ends = [100 * (gain.after + gain.gain_low), 100 * (gain.after + gain.gain_high)]  # NaN is not drawn
        y = methods.index(gain.method) + _PLACES["add"]
        axes.plot(ends, [y, y], color=CONDITION_COLOURS["add"], linewidth=1.6, zorder=3)
    axes.set_xlim(-3, 103)
    axes.set_xticks([0, 25, 50, 75, 100])
    rows_by_name(axes, methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)


def _key(frame: pd.DataFrame, confidence: float) -> list[Line2D]:
    dots = [
        Line2D([], [], color=CONDITION_COLOURS[condition], marker="o", linewidth=0, markersize=4, label=label)
        for condition, label in _NAMES.items()
    ]
    counts = sorted({int(n) for n in frame["n"]})
    examples = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    circle = {"color": MUTED, "marker": "o", "linewidth": 0, "markersize": 3, "markerfacecolor": "white"}
    line = {"color": CONDITION_COLOURS["add"], "linewidth": 1.6}
    return [
        *dots,
        Line2D([], [], **circle, label=f"one chain (n = {examples} test examples)"),
        Line2D([], [], **line, label=f"{100 * confidence:g} % interval of the gain of θ"),
        Line2D([], [], color=MUTED, linestyle=DOTTED, linewidth=1.0, label="zero-shot before training"),
    ]
