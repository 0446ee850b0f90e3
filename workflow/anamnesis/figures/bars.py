"""HP, IP and OP of each method, with every chain as a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.errors import UserError
from anamnesis.evaluation.forgetting import require_columns
from anamnesis.evaluation.summary import BASELINE
from anamnesis.figures.style import INK, MUTED, WIDTH, method_colour, styled

_TITLES = {
    "hp": "HP: held-out sets, zero-shot",
    "ip": "IP: held-out sets, few-shot",
    "op": "OP: training tasks, zero-shot",
}


def summary_bars(frame: pd.DataFrame) -> Figure:
    """One panel each for HP, IP and OP (per cent): a bar per method (mean), a point per chain, a whisker of ± one s.d.

    Parameters
    ----------
    frame : ``method, hp, ip, op`` with one row per chain (``evaluation.summary.chain_measures``); rows of the untrained
        model are drawn as a horizontal line.

    Raises UserError for a missing column or when no method is there.
    """
    require_columns(frame, ["method", *_TITLES], "table of measures")
    methods = [m for m in frame["method"].unique() if m != BASELINE]
    if not methods:
        raise UserError("the table of measures has no trained method: there is nothing to draw")
    with styled():
        figure = plt.figure(figsize=(WIDTH, 2.75), layout="constrained")
        panels = figure.subplots(1, len(_TITLES), sharey=True)
        for axes, (name, title) in zip(panels, _TITLES.items(), strict=True):
            _draw_panel(axes, frame, methods, name)
            axes.set_title(title)
        panels[0].set_ylabel("Accuracy after the last stage (%)")
        figure.legend(handles=_key(frame), loc="outside lower center", ncols=4)
    return figure


def _draw_panel(axes: Axes, frame: pd.DataFrame, methods: Sequence[str], name: str) -> None:
    before = frame.loc[frame["method"] == BASELINE, name].dropna()
    if len(before):
        axes.axhline(100 * before.mean(), color=INK, linewidth=1.0, linestyle=(0, (1, 1.2)), zorder=3)
    for place, method in enumerate(methods):
        values = 100 * frame.loc[frame["method"] == method, name].to_numpy(dtype=float)
        colour = method_colour(method, methods)
        axes.bar(place, values.mean(), width=0.66, color=colour, alpha=0.80, zorder=2)
        if len(values) > 1:
            axes.errorbar(place, values.mean(), yerr=values.std(ddof=1), fmt="none", ecolor=INK, elinewidth=1.0,
                          capsize=3, zorder=4)  # fmt: skip
        offsets = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(place + offsets, values, s=11, color="white", edgecolors=INK, linewidths=0.7, zorder=5)
        axes.annotate(f"{values.mean():.1f}", (place, 0), xytext=(0, 3), textcoords="offset points", ha="center",
                      va="bottom", fontsize=7, color="white", fontweight="bold", zorder=6)  # fmt: skip
    counts = frame["method"].value_counts()
    labels = [f"{m}\n(n={counts[m]})" for m in methods]
    crowded = len(methods) > 3
    axes.set_xticks(range(len(methods)), labels, rotation=40 if crowded else 0, ha="right" if crowded else "center",
                    rotation_mode="anchor" if crowded else "default")  # fmt: skip
    axes.set_xlim(-0.6, len(methods) - 0.4)
    axes.set_ylim(0, 100)
    axes.tick_params(axis="x", length=0)


def _key(frame: pd.DataFrame) -> list[Line2D]:
    handles = [
        Line2D([], [], color=MUTED, linewidth=6, label="bar: mean"),
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", markersize=4, linewidth=0,
               label="point: one chain (order, seed)"),
        Line2D([], [], color=INK, marker="|", markersize=7, linewidth=0, label="whisker: ± 1 s.d."),
    ]  # fmt: skip
    if (frame["method"] == BASELINE).any():
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 1.2)), linewidth=1.0, label="before training"))
    return handles
