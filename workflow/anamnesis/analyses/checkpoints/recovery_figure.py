"""What adding the current and the initial model's instruction vector gives back (figure 7 of arXiv
2406.12227).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.checkpoints.tables import recovery_table
from anamnesis.figures.panels import DASHED, DOTTED, check, mark_layer, per_cent, point_key, title
from anamnesis.figures.style import CONDITION_COLOURS, INK, MUTED, Drawn, new_figure, styled

# colours that no method has by default: what is compared here is vectors
_ADDED = {
    "initial": {"color": "#332288", "linestyle": "-", "marker": "o", "zorder": 2.6},
    "current": {"color": "#cc79a7", "linestyle": DASHED, "marker": "s", "zorder": 2.5},
    "random": {"color": CONDITION_COLOURS["random"], "linestyle": "-", "marker": "", "zorder": 2.0},
}
_NAMES = {
    "initial": "+ θ of the model before training",
    "current": "+ θ of the model itself",
    "random": "+ random vector of equal norm",
}
_BASES = {
    "zero-shot": (CONDITION_COLOURS["none"], DOTTED, "zero-shot, nothing added"),
    "few-shot": (CONDITION_COLOURS["few-shot"], DOTTED, "few-shot, nothing added"),
    "before": (CONDITION_COLOURS["few-shot"], (0, (6, 1.2)), "few-shot, before training"),
}


def recovery(frame: pd.DataFrame) -> Figure:
    """After the last stage, a row per method and a column per set: accuracy (per cent) against the layer
    after which a vector is added to the zero-shot prompt.

    Parameters
    ----------
    frame : ``set, method, condition, vector, layer, accuracy, n, chosen``
        (``checkpoints.tables.recovery_table``).

    Horizontal lines: no vector. A grey mark below: the layer picked before training. Raises UserError for an
    empty frame or a missing column.
    """
    columns = ["set", "method", "condition", "vector", "layer", "accuracy", "n", "chosen"]
    check(frame, columns, "table of recovery")
    sets, methods = list(frame["set"].unique()), list(frame["method"].unique())
    with styled():
        figure = new_figure(1.55 * len(methods) + 0.85)
        panels = figure.subplots(len(methods), len(sets), sharex=True, sharey=True, squeeze=False)
        for method, row in zip(methods, panels, strict=True):
            for name, axes in zip(sets, row, strict=True):
                _draw(axes, frame[(frame["set"] == name) & (frame["method"] == method)])
                if method == methods[0]:
                    title(axes, name, 88 // len(sets))
            row[0].set_ylabel(f"{method}\nAccuracy (%)")
        for axes in panels[-1]:
            axes.set_xlabel("Layer", labelpad=1)
            axes.locator_params(axis="x", integer=True, nbins=6)
        figure.legend(handles=_key(int(frame["n"].max())), loc="outside lower center", ncols=3)
    return figure


def draw(frame: pd.DataFrame) -> Drawn:
    """From the table of all checkpoints."""
    data = recovery_table(frame)
    return Drawn(recovery(data), data)


def _draw(axes: Axes, data: pd.DataFrame) -> None:
    per_cent(axes)
    for condition, (colour, dashes, _) in _BASES.items():
        values = data.loc[data["condition"] == condition, "accuracy"]
        axes.axhline(100 * values.mean(), color=colour, linestyle=dashes, linewidth=1.0, zorder=1.5)
    for vector, style in _ADDED.items():
        part = data[data["vector"] == vector].sort_values("layer")
        axes.plot(
            part["layer"], 100 * part["accuracy"], **style, markersize=2.0, linewidth=1.1, clip_on=False
        )
    mark_layer(axes, data["chosen"].iloc[0], 3.6, MUTED)


def _key(n: int) -> list[Line2D]:
    added = [
        Line2D([], [], **{**style, "zorder": 2}, markersize=3, linewidth=1.2, label=_NAMES[name])
        for name, style in _ADDED.items()
    ]
    bases = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.2, label=label)
        for colour, dashes, label in _BASES.values()
    ]
    chosen = f"layer chosen before training (n = {n})"
    mark = point_key(chosen, "^", color=INK, alpha=0.6, markersize=4)
    return [*added, *bases, mark]
