"""Causal effect of every attention head, and the heads chosen for the instruction vector."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anamnesis.core.errors import unknown
from anamnesis.figures.panels import UNITS, check, head_map, numbered, rows_by_name
from anamnesis.figures.style import INK, MUTED, Drawn, new_figure, styled
from anamnesis.stats.chart_tables import task_effects

_MOST_BARS = 15


def head_effects(frame: pd.DataFrame, unit: str = "probability") -> Figure:
    """Heat map of the mean causal effect, layer by head, with the selected heads outlined and listed with
    their error.

    Parameters
    ----------
    frame : ``rank, layer, head, effect, standard_error, n_prompts, n_tasks, selected``, one row per head.
        Effect: change of the probability of the right answer (eq. 2 of Jiang et al. 2024), mean over tasks.
    unit : "probability" or "log_probability", whichever ``effect`` was computed in.

    The colour scale is symmetric about zero. Raises UserError for an empty frame, one that lacks a column, or
    an unknown unit.
    """
    check(frame, ["rank", "layer", "head", "effect", "standard_error", "selected"], "table of heads")
    if unit not in UNITS:
        raise unknown("unit of effect", unit, UNITS)
    grid = frame.pivot(index="head", columns="layer", values="effect").sort_index()
    listed = frame[frame["selected"].astype(bool)].sort_values("rank").head(_MOST_BARS)
    with styled():
        height = min(4.6, max(2.7, 0.9 + 0.16 * max(len(grid), len(listed))))
        figure = new_figure(height)
        if len(listed):
            left, right = figure.subplots(1, 2, width_ratios=[2.55, 1.0])
            _draw_bars(right, listed, int(frame["selected"].sum()), UNITS[unit])
        else:
            left = figure.subplots()
        _draw_map(figure, left, grid, frame, UNITS[unit])
    return figure


def draw(
    frame: pd.DataFrame,
    unit: str,
    effects: Sequence[pd.DataFrame],
    tasks: Sequence[str],
    confidence: float = 0.95,
) -> Drawn:
    """From the ranking of heads; ``unit``: the scale they were ranked on; ``effects``: prompt by prompt, of
    each of the ``tasks``.
    """
    by_task = task_effects(dict(zip(tasks, effects, strict=True)), unit, confidence)
    return Drawn(head_effects(frame, unit), frame, [by_task])


def _draw_map(figure: Figure, axes: Axes, grid: pd.DataFrame, frame: pd.DataFrame, label: str) -> None:
    limit = float(frame["effect"].abs().max()) or 1.0
    layers, heads = list(grid.columns), list(grid.index)
    outlined = frame.loc[frame["selected"].astype(bool), ["head", "layer"]].itertuples(index=False)
    image = head_map(axes, grid, limit, outlined, 1.0, 3)
    numbered(axes.xaxis, layers, 10)
    numbered(axes.yaxis, heads, 10)
    axes.set_xlabel("Layer")
    axes.set_ylabel("Head")
    axes.set_title(f"Mean causal effect of each head ({label} of the answer)", fontweight="bold")
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=28, fraction=0.045)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.ax.set_title(label, fontsize=7, loc="left", pad=4)


def _draw_bars(axes: Axes, listed: pd.DataFrame, selected: int, label: str) -> None:
    places = range(len(listed))
    colours = ["#b2182b" if effect >= 0 else "#2166ac" for effect in listed["effect"]]
    axes.barh(places, listed["effect"], color=colours, height=0.68, alpha=0.85)
    axes.errorbar(
        listed["effect"], places, xerr=listed["standard_error"].fillna(0.0), fmt="none", ecolor=INK,
        elinewidth=0.8, capsize=1.6, capthick=0.8,
    )  # fmt: skip
    names = [f"{int(layer)}.{int(head)}" for layer, head in zip(listed["layer"], listed["head"], strict=True)]
    rows_by_name(axes, names, 4)
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, linewidth=0.6)
    axes.set_xlabel(f"{label} ± s.e.")
    axes.set_ylabel("Layer.head")
    shown = "Selected heads" if selected == len(listed) else f"Top {len(listed)} of {selected}"
    axes.set_title(shown, fontweight="bold")
