"""What guidance gives each training task, against the length of its instruction and the variety of its
answers.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.open_questions.tables import PREDICTORS, mean_gains
from anamnesis.figures.panels import MARKERS, check, small_print
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, readable, styled


def guidance_gain(frame: pd.DataFrame) -> Figure:
    """A panel per predictor: gain (points) by guidance in zero-shot accuracy after the last stage, a point
    per method and task (mean over chains) and a whisker over the range of the chains.

    Parameters
    ----------
    frame : ``method, set, tokens, distinct, entropy, gain, least, most, pairs``
        (``open_questions.tables.mean_gains``).

    Raises UserError for an empty frame or a missing column.
    """
    check(frame, ["method", "set", *PREDICTORS, "gain", "least", "most", "pairs"], "table of gains")
    methods, sets = list(frame["method"].unique()), list(frame["set"].unique())
    marks = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(sets)}
    with styled():
        figure = new_figure(2.9)
        panels = figure.subplots(1, len(PREDICTORS), sharey=True)
        for (column, label), axes in zip(PREDICTORS.items(), panels, strict=True):
            for row in frame.itertuples():
                ends = [[100 * (row.gain - row.least)], [100 * (row.most - row.gain)]]
                axes.errorbar(
                    getattr(row, column), 100 * row.gain, ends, color=method_colour(row.method, methods),
                    marker=marks[row.set], markersize=5, elinewidth=0.8, capsize=1.8,
                )  # fmt: skip
            axes.axhline(0, color=INK, linewidth=0.7)
            axes.set_xlabel(label)
            axes.margins(0.12)
        panels[0].set_ylabel("Guided − plain (points)")
        figure.legend(handles=_key(frame, methods, marks), loc="outside upper center", ncols=2)
        n = int(frame["pairs"].max())
        small_print(
            figure,
            f"n = {len(sets)} tasks. Points: means over {n} pair{'s' * (n > 1)} of chains of one order and "
            "seed; whiskers: their range.",
        )
    return figure


def draw(frame: pd.DataFrame) -> Drawn:
    """From the gains of all pairs of chains."""
    data = mean_gains(frame)
    return Drawn(guidance_gain(data), data)


def _key(frame: pd.DataFrame, methods: list[str], marks: dict[str, str]) -> list[Line2D]:
    points = [
        Line2D([], [], color=MUTED, marker=mark, markersize=4, linewidth=0, label=readable(name))
        for name, mark in marks.items()
    ]
    if len(methods) == 1:
        return points
    return points + [Line2D([], [], color=method_colour(m, methods), linewidth=3, label=m) for m in methods]
