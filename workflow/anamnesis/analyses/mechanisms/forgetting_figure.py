"""The loss of the first task as later ones are learnt, and what predicts how much a stage takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from anamnesis.analyses.measured import CHAIN
from anamnesis.analyses.mechanisms.columns import BASE, LEARNT, SLICED, TRAINED
from anamnesis.analyses.mechanisms.comparison import OUTCOMES, PREDICTORS
from anamnesis.figures.panels import DOTTED, grid, method_key, point_key
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, readable, styled
from anamnesis.stats.forgetting import require_columns

_COLUMNS = 3  # of panels: four would leave no room for their numbers
_WEIGHTS = {TRAINED: ("-", "o", "its adapter"), BASE: ((0, (3, 1.4)), "s", "attention of one layer")}


def landscape(frame: pd.DataFrame) -> Figure:
    """The first task's loss after every stage: top eigenvalue and trace of its Hessian, and slices.

    ``frame``: the table ``landscape``. Thin lines are chains, thick ones their mean. The slices are those
    after the first and the last stage.
    """
    require_columns(frame, [*CHAIN, "stage", "weights", "measure", "step", "value"], "table of the landscape")
    methods = list(dict.fromkeys(frame["method"]))
    with styled():
        figure = new_figure(2.7)
        first, second, third = figure.subplots(1, 3)
        for axes, measure, title in (
            (first, "eigenvalue", "Top eigenvalue of the Hessian"),
            (second, "trace", "Trace of the Hessian"),
        ):
            for weights in _WEIGHTS:
                part = frame[(frame["measure"] == measure) & (frame["weights"] == weights)]
                _levels(axes, part, weights, methods)
            axes.set_title(title)
            _logarithmic(axes)
            axes.set_xticks(sorted(frame["stage"].unique()))
            axes.set_xlabel("Stage", labelpad=1)
        _slices(third, frame[frame["weights"] == SLICED], methods)
        third.set_title(f"Loss of {readable(frame['set'].iloc[0])}", fontsize=7.5)
        figure.legend(handles=_landscape_key(frame, methods), loc="outside lower center", ncols=6,
                      columnspacing=1.3)  # fmt: skip
    return figure


def draw_landscape(frame: pd.DataFrame) -> Drawn:
    return Drawn(landscape(frame), frame)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic scale of both signs, unless the values are so alike that it would have no numbers."""
    low, high = axes.get_ylim()
    if low <= 0 or high > 10 * low:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_minor_formatter(NullFormatter())


def _levels(axes: Axes, data: pd.DataFrame, weights: str, methods: Sequence[str]) -> None:
    style, marker, _ = _WEIGHTS[weights]
    for method in methods:
        colour = method_colour(method, methods)
        part = data[data["method"] == method]
        for _, chain in part.groupby(CHAIN):
            axes.plot(chain["stage"], chain["value"], color=colour, linestyle=style, linewidth=0.6, alpha=0.6)
        mean = part.groupby("stage")["value"].mean()
        axes.plot(
            mean.index, mean, color=colour, linestyle=style, marker=marker, markersize=3.2, linewidth=1.5
        )


def _slices(axes: Axes, data: pd.DataFrame, methods: Sequence[str]) -> None:
    stages = sorted({data["stage"].min(), data["stage"].max()})
    for method in methods:
        for stage in stages:
            part = data[(data["method"] == method) & (data["stage"] == stage)]
            mean = part.groupby("step")["value"].mean()
            axes.plot(mean.index, mean, color=method_colour(method, methods), linewidth=1.3,
                      linestyle=DOTTED if stage == stages[0] and len(stages) > 1 else "-")  # fmt: skip
    axes.set_xlabel("Step, in lengths of the weights' rows", labelpad=1)
    axes.set_ylabel("Nats per token", labelpad=1)


def _landscape_key(frame: pd.DataFrame, methods: Sequence[str]) -> list[Line2D]:
    handles = method_key(methods)
    handles += [
        Line2D([], [], color=INK, linestyle=style, marker=marker, markersize=3.2, label=label)
        for style, marker, label in _WEIGHTS.values()
    ]
    first, last = int(frame["stage"].min()), int(frame["stage"].max())
    handles.append(Line2D([], [], color=INK, linestyle=DOTTED, label=f"slice after stage {first}"))
    handles.append(Line2D([], [], color=INK, label=f"after stage {last}"))
    return handles


def predictors(pairs: pd.DataFrame, associations: pd.DataFrame, outcome: str = "loss_rise") -> Figure:
    """One panel per predictor: what a stage took from a set against the predictor, with the correlations.

    ``pairs``, ``associations``: of ``mechanisms.comparison``. Filled points are tasks learnt before, hollow
    ones held-out sets; r is Pearson's, rho Spearman's, over all points shown, with bootstrap intervals.
    """
    require_columns(pairs, [*CHAIN, "role", outcome, *PREDICTORS], "table of pairs")
    methods = list(dict.fromkeys(pairs["method"]))
    shown = [name for name in PREDICTORS if pairs[[name, outcome]].dropna().shape[0]]
    found = associations[(associations["outcome"] == outcome) & (associations["sets"] == "all")]
    found = found.set_index("predictor")
    rows = -(-len(shown) // _COLUMNS)
    with styled():
        figure = new_figure(1.95 * rows + 0.4)
        panels = grid(figure, len(shown), _COLUMNS, sharey=True)
        for name, axes in zip(shown, panels.flat, strict=False):
            _scatter(axes, pairs, name, outcome, methods)
            axes.set_title(_said(found.loc[name]), fontsize=6.3, linespacing=1.3)
            axes.set_xlabel(PREDICTORS[name], fontsize=7, labelpad=1)
        for axes in panels[:, 0]:
            axes.set_ylabel(OUTCOMES[outcome].replace(" (", "\n("), fontsize=7)
        figure.legend(handles=_predictors_key(methods), loc="outside lower center", ncols=5)
    return figure


def draw_predictors(frame: pd.DataFrame, associations: pd.DataFrame) -> Drawn:
    return Drawn(predictors(frame, associations), frame)


def _scatter(axes: Axes, pairs: pd.DataFrame, name: str, outcome: str, methods: Sequence[str]) -> None:
    for method in methods:
        colour = method_colour(method, methods)
        for learnt in (False, True):
            part = pairs[(pairs["method"] == method) & ((pairs["role"] == LEARNT) == learnt)]
            x = part[name].round(9)  # as an axis of rounding errors could not be read
            axes.scatter(x, part[outcome], s=10, linewidths=0.7, edgecolors=colour, zorder=3,
                         facecolors=colour if learnt else "none", alpha=0.8)  # fmt: skip
    axes.axhline(0, color=MUTED, linewidth=0.6, zorder=1)
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)


def _said(row: pd.Series) -> str:
    lines = []
    for symbol, name in (("r", "pearson"), ("ρ", "spearman")):
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        text = "not defined" if np.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
        lines.append(f"{symbol} = {text}".replace("-", "−"))
    return f"{lines[0]}, n = {row['n']}\n{lines[1]}"


def _predictors_key(methods: Sequence[str]) -> list[Line2D]:
    learnt = point_key("task learnt before", color=MUTED, markersize=4)
    held_out = point_key("held-out set", color=MUTED, markersize=4, fillstyle="none")
    return [*method_key(methods), learnt, held_out]
