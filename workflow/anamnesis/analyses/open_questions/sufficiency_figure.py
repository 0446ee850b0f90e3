"""What the instruction vector leaves out: zero-shot with that of more and more heads, against few-shot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.open_questions.tables import sufficiency_levels
from anamnesis.figures.panels import DASHED, DOTTED, check, per_cent, small_print, title
from anamnesis.figures.style import CONDITION_COLOURS, Drawn, new_figure, styled

_BASES = {"zero-shot": (CONDITION_COLOURS["none"], DOTTED), "few-shot": (CONDITION_COLOURS["few-shot"], "-")}
_VECTORS = {
    "theta": {"color": CONDITION_COLOURS["add"], "linestyle": "-", "marker": "o"},
    "random": {"color": CONDITION_COLOURS["random"], "linestyle": DASHED, "marker": "s"},
}
_NAMES = {
    "zero-shot": "zero-shot, nothing added",
    "few-shot": "few-shot, nothing added",
    "theta": "zero-shot + θ of S and the next heads by causal effect",
    "random": "zero-shot + θ of S and as many heads at random",
}


def sufficiency(frame: pd.DataFrame, confidence: float) -> Figure:
    """A panel per set: accuracy (per cent) in the model before training against the number of heads in θ.

    Parameters
    ----------
    frame : ``set, condition, more, heads, accuracy, low, high, n``
        (``open_questions.tables.sufficiency_levels``).
    confidence : coverage of the interval ``low`` to ``high`` over examples, a bar or, of few-shot, a band.

    Raises UserError for an empty frame or a missing column.
    """
    check(frame, ["set", "condition", "heads", "accuracy", "low", "high", "n"], "table of sufficiency")
    sets = list(frame["set"].unique())
    with styled():
        figure = new_figure(2.75)
        panels = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
        for name, axes in zip(sets, panels, strict=True):
            title(axes, name, 80 // len(sets))
            _draw(axes, frame[frame["set"] == name])
            axes.set_xlabel("Heads in θ", labelpad=1)
        panels[0].set_ylabel("Accuracy (%)")
        handles = [
            Line2D([], [], **style, markersize=3, label=_NAMES[name])
            for name, style in (*_bases(), *_VECTORS.items())
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        small_print(
            figure,
            f"Before training; n = {int(frame['n'].max())} examples per set. Bars and band: "
            f"{100 * confidence:g} % bootstrap interval over examples.",
        )
    return figure


def draw(frame: pd.DataFrame, statistics: Mapping[str, Any]) -> Drawn:
    """From whether each example was answered rightly; ``statistics``: of the intervals."""
    data = sufficiency_levels(frame, statistics["bootstrap_resamples"], statistics["confidence"])
    return Drawn(sufficiency(data, statistics["confidence"]), data)


def _bases():
    return ((name, {"color": colour, "linestyle": line}) for name, (colour, line) in _BASES.items())


def _draw(axes: Axes, data: pd.DataFrame) -> None:
    per_cent(axes)
    for name, style in _bases():
        (row,) = data[data["condition"] == name].itertuples()
        axes.axhline(100 * row.accuracy, **style, linewidth=1.2, zorder=1.5)
        if name == "few-shot":
            axes.axhspan(100 * row.low, 100 * row.high, color=style["color"], alpha=0.12, linewidth=0)
    sizes = sorted(data.loc[data["condition"] == "theta", "heads"])
    aside = 0.012 * (sizes[-1] - sizes[0])
    for place, (name, style) in zip((-aside, aside), _VECTORS.items(), strict=True):
        part = data[data["condition"] == name].sort_values("heads")
        if part.empty:  # no heads to add
            continue
        value = 100 * part["accuracy"]
        ends = [(value - 100 * part["low"]).clip(lower=0), (100 * part["high"] - value).clip(lower=0)]
        axes.errorbar(
            part["heads"] + place, value, ends, **style, markersize=3, linewidth=1.1, elinewidth=0.8,
            capsize=1.6, clip_on=False, zorder=2.5,
        )  # fmt: skip
    axes.set_xticks(sizes)
