"""Zero-shot accuracy against the share of the instruction vector in the hidden states (figure 5a of arXiv
2406.12227).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.checkpoints.tables import alignment_table, correlations
from anamnesis.figures.panels import MARKERS, chains_note, check, method_key, per_cent, stages, title
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, readable, styled


def alignment(frame: pd.DataFrame, found: Mapping[str, float]) -> Figure:
    """Above, per set: accuracy (per cent) and largest cosine over the layers, by stage and method. Below: one
    against the other, a point per set, stage and chain.

    Parameters
    ----------
    frame : ``method, order, seed, stage, set, similarity, accuracy`` (of
        ``checkpoints.tables.alignment_table``).
    found : ``pearson, spearman, within, n`` (``checkpoints.tables.correlations``).

    Raises UserError for an empty frame or a missing column.
    """
    check(frame, ["method", "order", "seed", "stage", "set", "similarity", "accuracy"], "table of alignment")
    sets, methods = list(frame["set"].unique()), list(frame["method"].unique())
    with styled():
        figure = new_figure(5.6)
        above, below = figure.subfigures(2, 1, height_ratios=[3.0, 2.6])
        panels = above.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
        top = 1.12 * float(frame["similarity"].max())
        for name, (accuracy, cosine) in zip(sets, panels.T, strict=True):
            data = frame[frame["set"] == name]
            title(accuracy, name, 88 // len(sets))
            per_cent(accuracy)
            for method in methods:
                mean = data[data["method"] == method].groupby("stage")[["accuracy", "similarity"]].mean()
                style = {"color": method_colour(method, methods), "marker": "o", "markersize": 2.6}
                accuracy.plot(mean.index, 100 * mean["accuracy"], **style, clip_on=False)
                cosine.plot(mean.index, mean["similarity"], **style, clip_on=False)
            cosine.set_ylim(min(0.0, 1.12 * float(frame["similarity"].min())), top)
            cosine.set_xlabel("Stage", labelpad=1)
            stages(cosine, data)
        panels[0, 0].set_ylabel("Zero-shot accuracy (%)")
        panels[1, 0].set_ylabel("max cos(h, θ)")
        _draw_scatter(below, frame, sets, methods, found)
    return figure


def draw(frame: pd.DataFrame, curves: pd.DataFrame) -> Drawn:
    """From the table of all checkpoints and the accuracy of all chains."""
    data = alignment_table(frame, curves)
    return Drawn(alignment(data, correlations(data)), data)


def _draw_scatter(part, frame: pd.DataFrame, sets, methods, found: Mapping[str, float]) -> None:
    axes: Axes = part.subplots()
    for name, marker in zip(sets, _cycled(len(sets)), strict=True):
        for method in methods:
            data = frame[(frame["set"] == name) & (frame["method"] == method)]
            before = data["stage"] == 0
            for points, face in ((data[before], "#9a9a9a"), (data[~before], method_colour(method, methods))):
                axes.scatter(
                    points["similarity"], 100 * points["accuracy"], s=20, marker=marker, color=face,
                    edgecolors="white", linewidths=0.4, zorder=3,
                )  # fmt: skip
    per_cent(axes)
    axes.set_xlabel("Largest cosine of hidden states with θ over the layers")
    axes.set_ylabel("Zero-shot accuracy (%)")
    axes.grid(True, axis="both")
    axes.set_title(
        f"Pearson r = {_signed(found['pearson'])}, Spearman ρ = {_signed(found['spearman'])}; within sets "
        f"r = {_signed(found['within'])} (n = {found['n']} points, {chains_note(frame)})"
    )
    marks = [
        Line2D([], [], color=INK, marker=m, markersize=4, linewidth=0, label=readable(name))
        for name, m in zip(sets, _cycled(len(sets)), strict=True)
    ]
    base = Line2D([], [], color="#9a9a9a", marker="o", markersize=4, linewidth=0, label="before training")
    part.legend(handles=[*method_key(methods), base, *marks], loc="outside right center", labelcolor=MUTED)


def _cycled(count: int) -> list[str]:
    return [MARKERS[i % len(MARKERS)] for i in range(count)]


def _signed(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.2f}".replace("-", "−")
