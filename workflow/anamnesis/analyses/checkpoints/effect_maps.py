"""Causal effects of all heads after each stage (figure 5c of arXiv 2406.12227)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anamnesis.analyses.checkpoints.tables import overlaps
from anamnesis.core.errors import unknown
from anamnesis.figures.panels import UNITS, check, head_map, numbered
from anamnesis.figures.style import Drawn, new_figure, styled

_MOST = 6  # stages side by side


def effect_maps(frame: pd.DataFrame, unit: str = "probability") -> Figure:
    """Heat maps, layer by head: a row per method, a column per stage; the initial head set outlined.

    Parameters
    ----------
    frame : ``method, order, seed, stage, layer, head, effect, selected, initial``
        (``checkpoints.tables.heads_by_stage``); chains of a method are averaged.
    unit : "probability" or "log_probability", whichever ``effect`` was computed in.

    One colour scale, symmetric about zero, cut at the largest effect beyond the one strongest head. Raises
    UserError for an empty frame, a missing column or an unknown unit.
    """
    columns = ["method", "order", "seed", "stage", "layer", "head", "effect", "selected", "initial"]
    check(frame, columns, "table of heads by stage")
    if unit not in UNITS:
        raise unknown("unit of effect", unit, UNITS)
    methods, stages = list(frame["method"].unique()), sorted(frame["stage"].unique())
    shown = stages if len(stages) <= _MOST else [*stages[: _MOST - 1], stages[-1]]
    shared = overlaps(frame).groupby(["method", "stage"])[["shared", "top"]].mean()
    mean = frame.groupby(["method", "stage", "layer", "head"], sort=True)["effect"].mean()
    limit = (
        float(mean.abs().groupby(["method", "stage"]).nlargest(2).groupby(level=[0, 1]).min().max()) or 1.0
    )
    outlined = frame.loc[frame["initial"], ["layer", "head"]].drop_duplicates()
    with styled():
        figure = new_figure(0.75 + 2.15 * len(methods))
        panels = figure.subplots(len(methods), len(shown), sharex=True, sharey=True, squeeze=False)
        for method, row in zip(methods, panels, strict=True):
            for stage, axes in zip(shown, row, strict=True):
                image = _draw(axes, mean[method, stage].unstack("head"), outlined, limit)
                found = shared.loc[(method, stage)]
                axes.set_title(f"{found['shared']:.3g} of {found['top']:.0f} in S", fontsize=6.5, pad=3)
            row[0].set_ylabel(f"{method}\nLayer", labelpad=2)
        for stage, axes in zip(shown, panels[-1], strict=True):
            axes.set_xlabel(f"Head\n{'before training' if stage == 0 else f'stage {stage}'}")
        bar = figure.colorbar(image, ax=panels, pad=0.012, aspect=40, fraction=0.03, extend="both")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=6.5, length=2)
        bar.ax.set_title(UNITS[unit], fontsize=7, loc="left", pad=8)
    return figure


def draw(frame: pd.DataFrame, unit: str) -> Drawn:
    """From the rankings of all checkpoints; ``unit``: the scale they are on."""
    return Drawn(effect_maps(frame, unit), frame)


def _draw(axes: Axes, grid: pd.DataFrame, outlined: pd.DataFrame, limit: float):
    image = head_map(axes, grid, limit, outlined.itertuples(index=False), 0.8)
    numbered(axes.xaxis, grid.columns, 6)
    numbered(axes.yaxis, grid.index, 6)
    return image
