"""Accuracy under instructions in words that no model was trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.open_questions.tables import OWN, wording_accuracy
from anamnesis.figures.panels import chains_note, check, method_key, per_cent, small_print, title
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.summary import BASELINE


def wordings(frame: pd.DataFrame) -> Figure:
    """Zero-shot above, few-shot below, a column per set: accuracy (per cent) before training and, for each
    method, after the last stage: of a set's own wording, of each other one, and their mean and s.d.

    Parameters
    ----------
    frame : ``method, order, seed, stage, set, shots, wording, accuracy, n``
        (``open_questions.tables.wording_accuracy``).

    Raises UserError for an empty frame or a missing column.
    """
    columns = ["method", "order", "seed", "stage", "set", "shots", "wording", "accuracy", "n"]
    check(frame, columns, "table of wordings")
    sets, methods, shots = (list(frame[column].unique()) for column in ("set", "method", "shots"))
    groups = [BASELINE, *methods]
    shown = frame.assign(group=frame["method"].where(frame["stage"] > 0, BASELINE))
    with styled():
        figure = new_figure(1.5 * len(shots) + 1.0)
        panels = figure.subplots(len(shots), len(sets), sharex=True, sharey=True, squeeze=False)
        for count, row in zip(shots, panels, strict=True):
            row[0].set_ylabel(f"{'Zero-shot' if count == 0 else f'{count}-shot'}\naccuracy (%)")
            for name, axes in zip(sets, row, strict=True):
                if count == shots[0]:
                    title(axes, name, 88 // len(sets))
                _draw(axes, shown[(shown["set"] == name) & (shown["shots"] == count)], groups)
        figure.legend(handles=[*method_key(groups), *_key(frame)], loc="outside upper center", ncols=3)
        small_print(
            figure,
            f"{chains_note(frame).capitalize()}; n = {int(frame['n'].max())} examples per point. Bars: mean "
            "and one s.d. over the other wordings, within 0 to 100.",
        )
    return figure


def draw(frame: pd.DataFrame) -> Drawn:
    """From the scores under all wordings."""
    data = wording_accuracy(frame)
    return Drawn(wordings(data), data)


def _draw(axes: Axes, data: pd.DataFrame, groups: list[str]) -> None:
    per_cent(axes)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xticks([])
    for place, group in enumerate(groups):
        values = 100 * data[data["group"] == group].groupby("wording")["accuracy"].mean()
        colour, others = method_colour(group, groups), values.drop(OWN)
        style = {"color": colour, "linewidth": 0, "clip_on": False}
        axes.plot([place - 0.26], values[OWN], **style, marker="D", markersize=4, markeredgecolor=INK,
                  markeredgewidth=0.5)  # fmt: skip
        places = place + np.linspace(-0.06, 0.16, len(others))  # so that equal ones are all seen
        axes.plot(places, others, **style, marker="o", markersize=2.6, alpha=0.6, markeredgewidth=0)
        mean, spread = others.mean(), others.std() if len(others) > 1 else 0.0
        ends = [[min(spread, mean)], [min(spread, 100 - mean)]]
        axes.errorbar(place + 0.32, mean, ends, color=colour, marker="_", markersize=6, elinewidth=1.1,
                      capsize=1.6, clip_on=False)  # fmt: skip


def _key(frame: pd.DataFrame) -> list[Line2D]:
    style = {"color": MUTED, "linewidth": 0}
    return [
        Line2D([], [], **style, marker="D", markersize=4, markeredgecolor=INK, markeredgewidth=0.5,
               label="the set's own wording"),
        Line2D([], [], **style, marker="o", markersize=3, alpha=0.6,
               label=f"{frame['wording'].max()} other wordings, one point each"),
        Line2D([], [], color=MUTED, marker="_", markersize=7, linewidth=1.1, label="their mean ± s.d."),
    ]  # fmt: skip
