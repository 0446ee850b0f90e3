"""Interference of gradients, drift of representations and disruption of heads, methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from anamnesis.analyses.measured import CHAIN
from anamnesis.analyses.mechanisms.columns import EVERY, LEARNT, WHOLE
from anamnesis.analyses.mechanisms.last_stage import head_means
from anamnesis.core.errors import UserError
from anamnesis.figures.panels import DOTTED, method_key
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.forgetting import require_columns

_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (6, 1)), (0, (2, 2)))
_MARKERS = "os^Dvp"
_LEAST_CHANGE = 1e-3  # what changed less is drawn at the left edge


def interference_data(frame: pd.DataFrame) -> pd.DataFrame:
    """What :func:`interference` draws, of the table ``interference``: one row per chain, stage, matrix and
    layer (-1: all), mean over the tasks learnt before: ``cosine, conflicts, heads`` (share of heads whose
    cosine is negative), ``tasks`` (of that mean).
    """
    learnt = frame[(frame["role"] == LEARNT) & (frame["matrix"] != EVERY)]
    keys = [*CHAIN, "stage", "matrix", "layer"]
    whole = learnt[learnt["head"] == WHOLE].groupby(keys, sort=False)
    found = whole.agg(cosine=("cosine", "mean"), conflicts=("conflicts", "mean"), tasks=("set", "nunique"))
    heads = learnt[learnt["head"] != WHOLE].assign(below=lambda f: f["cosine"] < 0)
    by_layer = heads.groupby(keys, sort=False)["below"].mean()
    in_all = heads.groupby([*CHAIN, "stage", "matrix"], sort=False)["below"].mean()
    in_all = pd.concat({WHOLE: in_all}, names=["layer"]).reorder_levels(keys) if len(in_all) else by_layer
    return found.join(pd.concat([by_layer, in_all]).rename("heads")).reset_index()


def interference(data: pd.DataFrame) -> Figure:
    """Above, one panel per matrix: cosine of the new task's gradient with those of earlier tasks, by layer.
    Below, along the stages: that cosine over all layers, conflicting probes, conflicting heads.

    ``data``: of :func:`interference_data`. Lines are means over chains (and stages, above), bands the range
    over chains. Raises UserError for an empty frame or a missing column.
    """
    _require(data, ["matrix", "layer", "cosine", "conflicts", "heads"])
    matrices, methods = list(dict.fromkeys(data["matrix"])), list(dict.fromkeys(data["method"]))
    with styled():
        figure = new_figure(4.1)
        above, below = figure.subfigures(2, 1, height_ratios=[1.0, 1.15])
        panels = above.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
        layers = data[data["layer"] != WHOLE]
        for axes, matrix in zip(panels, matrices, strict=True):
            part = layers[layers["matrix"] == matrix]
            for method in methods:
                _line(
                    axes,
                    part[part["method"] == method],
                    "layer",
                    "cosine",
                    {"color": method_colour(method, methods)},
                )
            axes.axhline(0, color=INK, linewidth=0.7)
            axes.set_title(f"{matrix}: gradient cosine")
            axes.set_xlabel("Layer", labelpad=1)
        wholes = data[data["layer"] == WHOLE]
        titles = {"cosine": "Cosine, all layers", "conflicts": "Conflicting probes (%)",
                  "heads": "Heads with a negative cosine (%)"}  # fmt: skip
        for axes, (column, title) in zip(below.subplots(1, 3), titles.items(), strict=True):
            _along_stages(axes, wholes, column, matrices, methods, 1 if column == "cosine" else 100)
            axes.set_title(title)
        below.legend(handles=[*_methods_key(methods, "chains: mean, range"), *_matrix_key(matrices)],
                     loc="outside lower center", ncols=7, columnspacing=1.2)  # fmt: skip
    return figure


def draw_interference(frame: pd.DataFrame) -> Drawn:
    data = interference_data(frame)
    return Drawn(interference(data), data)


def _along_stages(axes: Axes, data, column: str, matrices: Sequence[str], methods, scale: float) -> None:
    for k, matrix in enumerate(matrices):
        for method in methods:
            part = data[(data["method"] == method) & (data["matrix"] == matrix)]
            values = scale * part.groupby("stage")[column].mean()
            axes.plot(
                values.index, values, linestyle=_STYLES[k % len(_STYLES)], marker=_MARKERS[k % len(_MARKERS)],
                color=method_colour(method, methods), markersize=3, linewidth=1.1,
            )  # fmt: skip
    if column == "cosine":
        axes.axhline(0, color=INK, linewidth=0.7)
    axes.set_xticks(sorted(data["stage"].unique()))
    axes.set_xlabel("Stage about to be learnt", labelpad=1)


def drift(frame: pd.DataFrame) -> Figure:
    """CKA with the model before training (left) and rotation of the principal subspaces (right), by layer and
    stage; one row per method.

    ``frame``: the table ``drift``. Lines are means over chains, bands their range.
    """
    _require(frame, ["set", "layer", "cka", "rotation"])
    data, methods = frame[frame["set"] == EVERY], list(dict.fromkeys(frame["method"]))
    stages = sorted(data["stage"].unique())
    with styled():
        figure = new_figure(1.75 * len(methods) + 0.45)
        grid = figure.subplots(len(methods), 2, sharex=True, sharey="col", squeeze=False)
        for row, method in zip(grid, methods, strict=True):
            part = data[data["method"] == method]
            size, n = int(part["subspace"].max()), int(part["n"].max())
            for axes, column in zip(row, ("cka", "rotation"), strict=True):
                for place, stage in enumerate(stages):
                    shade = 0.35 + 0.65 * (place + 1) / len(stages)
                    style = {"color": method_colour(method, methods), "alpha": shade,
                             "linestyle": _STYLES[(len(stages) - 1 - place) % len(_STYLES)]}  # fmt: skip
                    _line(axes, part[part["stage"] == stage], "layer", column, style, 0.08)
            row[0].set_title(f"{method}: CKA with the model before training (n = {n})")
            row[1].set_title(f"{method}: rotation of the top {size} components (degrees)")
        for axes in grid[-1]:
            axes.set_xlabel("Layer", labelpad=1)
        handles = [
            Line2D([], [], color=INK, alpha=0.35 + 0.65 * (k + 1) / len(stages), label=f"after stage {stage}",
                   linestyle=_STYLES[(len(stages) - 1 - k) % len(_STYLES)])
            for k, stage in enumerate(stages)
        ]  # fmt: skip
        handles.append(Patch(color=MUTED, alpha=0.2, linewidth=0, label="range over chains"))
        figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def draw_drift(frame: pd.DataFrame) -> Drawn:
    return Drawn(drift(frame), frame)


def disruption_data(frame: pd.DataFrame) -> pd.DataFrame:
    """What :func:`disruption` draws, of the table ``heads``: the change of each head, mean over sets, after
    the last stage.
    """
    return head_means(frame[frame["stage"] == frame["stage"].max()])


def disruption(data: pd.DataFrame, cutoffs: Mapping[str, float]) -> Figure:
    """Left: heads beyond the cut-off by layer, right: beyond any cut-off; attention above, output below.

    ``data``: of :func:`disruption_data`. Lines are means over chains, bands their range.
    """
    _require(data, ["layer", "head", "attention", "output"])
    methods = list(dict.fromkeys(data["method"]))
    names = {"attention": "attention (JS divergence, bits)", "output": "output (1 − cosine)"}
    with styled():
        figure = new_figure(3.9)
        for (kind, name), row in zip(
            names.items(), figure.subplots(2, 2, width_ratios=[1.5, 1]), strict=True
        ):
            beyond = data.assign(share=100.0 * (data[kind] > cutoffs[kind]))
            for method in methods:
                style = {"color": method_colour(method, methods)}
                _line(row[0], beyond[beyond["method"] == method], "layer", "share", style)
                _survival(row[1], data[data["method"] == method], kind, style)
            row[0].set_title(f"Heads beyond {cutoffs[kind]:g}: {name}")
            row[0].set_ylabel("% of a layer's heads")
            row[0].set_xlabel("Layer", labelpad=1)
            row[0].set_ylim(-3, 103)
            row[1].axvline(cutoffs[kind], color=INK, linewidth=0.8, linestyle=DOTTED)
            row[1].set_title("Heads beyond any cut-off")
            row[1].set_ylabel("% of all heads")
            row[1].set_xlabel(name[0].upper() + name[1:], labelpad=1)
            row[1].set_xscale("log")
            row[1].set_xlim(_LEAST_CHANGE, None)
            row[1].xaxis.set_minor_formatter(NullFormatter())
            row[1].set_ylim(-3, 103)
        cut = Line2D([], [], color=INK, linewidth=0.8, linestyle=DOTTED, label="cut-off")
        figure.legend(handles=[*_methods_key(methods, "chains: mean, range"), cut],
                      loc="outside lower center", ncols=5)  # fmt: skip
    return figure


def draw_disruption(frame: pd.DataFrame, cutoffs: Mapping[str, float]) -> Drawn:
    data = disruption_data(frame)
    return Drawn(disruption(data, cutoffs), data)


def _survival(axes: Axes, data: pd.DataFrame, kind: str, style: dict) -> None:
    """Share of heads beyond x, for every chain."""
    for place, (_, chain) in enumerate(data.groupby(CHAIN)):
        values = np.sort(chain[kind].to_numpy())[::-1].clip(_LEAST_CHANGE)
        share = 100 * np.arange(1, len(values) + 1) / len(values)
        axes.step(values, share, where="post", linewidth=1.2 if place == 0 else 0.7, **style)


def _line(axes: Axes, data: pd.DataFrame, x: str, y: str, style: dict, band: float = 0.18) -> None:
    """The mean over chains of the mean of each chain, and the range over chains."""
    chains = data.groupby([*CHAIN, x])[y].mean().groupby(x).agg(["mean", "min", "max"])
    axes.plot(chains.index, chains["mean"], linewidth=1.3, **style)
    axes.fill_between(
        chains.index, chains["min"], chains["max"], alpha=band, linewidth=0, color=style["color"]
    )


def _methods_key(methods: Sequence[str], note: str) -> list[Line2D | Patch]:
    return [*method_key(methods), Patch(color=MUTED, alpha=0.2, linewidth=0, label=note)]


def _matrix_key(matrices: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=INK, linestyle=_STYLES[k % len(_STYLES)], marker=_MARKERS[k % len(_MARKERS)],
               markersize=3, linewidth=1.1, label=matrix)
        for k, matrix in enumerate(matrices)
    ]  # fmt: skip


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    require_columns(frame, [*CHAIN, "stage", *columns], "table of mechanisms")
    if frame.empty:
        raise UserError("the table of mechanisms is empty: train two stages or more, then measure them")
