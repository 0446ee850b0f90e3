"""How far instruction vectors move, compared with random head sets, and what putting the heads back gives
(figure 5b of arXiv 2406.12227).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.checkpoints.tables import drift_table
from anamnesis.figures.panels import (
    DASHED,
    DOTTED,
    chains_note,
    check,
    method_key,
    per_cent,
    small_print,
    stages,
    title,
)
from anamnesis.figures.style import INK, Drawn, method_colour, new_figure, styled


def drift(frame: pd.DataFrame) -> Figure:
    """Per set: above, cosine with the vector before training, of the selected heads and of random sets (mean
    and band of one s.d. over the draws); below, few-shot accuracy (per cent), as it is and with the heads'
    outputs before training put back.

    Parameters
    ----------
    frame : ``method, order, seed, stage, set, selected, random, random_sd, draws, few_shot, restored, n``
        (``checkpoints.tables.drift_table``).

    Raises UserError for an empty frame or a missing column.
    """
    columns = ["method", "order", "seed", "stage", "set", "selected", "random", "random_sd", "few_shot"]
    check(frame, [*columns, "restored", "draws", "n"], "table of drift")
    sets, methods = list(frame["set"].unique()), list(frame["method"].unique())
    with styled():
        figure = new_figure(3.9)
        panels = figure.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
        for name, (cosine, accuracy) in zip(sets, panels.T, strict=True):
            data = frame[frame["set"] == name]
            title(cosine, name, 88 // len(sets))
            for method in methods:
                _draw(cosine, accuracy, data[data["method"] == method], method_colour(method, methods))
            per_cent(accuracy)
            accuracy.set_xlabel("Stage", labelpad=1)
            stages(accuracy, data)
        lowest = float((frame["random"] - frame["random_sd"].fillna(0)).min())
        panels[0, 0].set_ylim(min(0.0, 1.1 * lowest), 1.04)
        panels[0, 0].set_ylabel("cos(θ before, θ now)")
        panels[1, 0].set_ylabel("Few-shot accuracy (%)")
        figure.legend(handles=[*method_key(methods), *_key(frame)], loc="outside upper center", ncols=3)
        small_print(
            figure,
            f"{chains_note(frame).capitalize()}; n = {int(frame['n'].max())} examples per point.",
        )
    return figure


def draw(frame: pd.DataFrame, conditions: pd.DataFrame) -> Drawn:
    """From two tables of all checkpoints."""
    data = drift_table(frame, conditions)
    return Drawn(drift(data), data)


def _draw(cosine: Axes, accuracy: Axes, data: pd.DataFrame, colour: str) -> None:
    columns = ["selected", "random", "random_sd", "few_shot", "restored"]
    mean = data.groupby("stage")[columns].mean()
    cosine.plot(mean.index, mean["selected"], color=colour, marker="o", markersize=2.6, clip_on=False)
    cosine.plot(mean.index, mean["random"], color=colour, linestyle=DOTTED, linewidth=1.2)
    low, high = mean["random"] - mean["random_sd"], (mean["random"] + mean["random_sd"]).clip(upper=1)
    cosine.fill_between(mean.index, low, high, color=colour, alpha=0.13, linewidth=0)
    for name, style, marker in (("few_shot", "-", "o"), ("restored", DASHED, "s")):
        accuracy.plot(
            mean.index, 100 * mean[name], color=colour, linestyle=style, marker=marker, markersize=2.6,
            clip_on=False,
        )  # fmt: skip


def _key(frame: pd.DataFrame) -> list[Line2D]:
    draws = int(frame["draws"].max())
    return [
        Line2D([], [], color=INK, marker="o", markersize=3, label="heads of θ; below: as it is"),
        Line2D([], [], color=INK, linestyle=DOTTED, label=f"random head sets, ± 1 s.d. ({draws} draws)"),
        Line2D([], [], color=INK, linestyle=DASHED, marker="s", markersize=3,
               label="below: heads of θ as before training"),
    ]  # fmt: skip
