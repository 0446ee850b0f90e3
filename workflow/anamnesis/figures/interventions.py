"""What adding or removing the instruction vector does to accuracy, layer by layer (after appendix E of the IV paper)."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.errors import UserError, unknown
from anamnesis.evaluation.forgetting import require_columns
from anamnesis.figures.style import CONDITION_COLOURS, WIDTH, readable, styled

_REFERENCES = ("none", "few-shot")
_BASE_STYLES = {"zero-shot": "-", "few-shot": (0, (3.2, 1.4))}
_NAMES = {"add": "vector added", "remove": "vector removed", "random": "random vector of equal norm added"}


def interventions(frame: pd.DataFrame) -> Figure:
    """One panel per set: accuracy (per cent) against the layer after which a vector is added or removed.

    Parameters
    ----------
    frame : ``set, layer, condition, base, accuracy, n``; condition is none, few-shot (both without a layer: -1), add,
        remove or random; base says which prompt the vector is put into. Several rows for one layer are averaged.

    Horizontal lines show the prompts without intervention. Raises UserError for an empty frame, a missing column or an
    unknown condition.
    """
    require_columns(frame, ["set", "layer", "condition", "base", "accuracy", "n"], "table of interventions")
    if frame.empty:
        raise UserError("the table of interventions is empty: there is nothing to draw")
    for condition in frame["condition"].unique():
        if condition not in CONDITION_COLOURS:
            raise unknown("condition", condition, CONDITION_COLOURS)
    sets = list(frame["set"].unique())
    columns = min(len(sets), 2 if len(sets) in (2, 4) else 3)
    rows = math.ceil(len(sets) / columns)
    with styled():
        figure = plt.figure(figsize=(WIDTH, 1.75 * rows + 0.75), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place < len(sets):
                _draw_panel(axes, frame[frame["set"] == sets[place]])
                axes.tick_params(labelbottom=place + columns >= len(sets))
                axes.set_xlabel("Layer" if place + columns >= len(sets) else "")
            else:
                axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("Accuracy (%)")
        figure.legend(handles=_key(frame), loc="outside lower center", ncols=3, handlelength=2.4)
    return figure


def _draw_panel(axes: Axes, data: pd.DataFrame) -> None:
    counts = sorted({int(n) for n in data["n"]})
    examples = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    axes.set_title(f"{readable(data['set'].iloc[0])}  (n = {examples})")
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])
    for condition in _REFERENCES:
        values = data.loc[data["condition"] == condition, "accuracy"]
        if len(values):
            axes.axhline(100 * values.mean(), **_reference_style(condition))
    curves = data[~data["condition"].isin(_REFERENCES)]
    for (condition, base), part in curves.groupby(["condition", "base"], sort=False):
        values = 100 * part.groupby("layer")["accuracy"].mean()
        axes.plot(values.index, values, **_curve_style(condition, base), clip_on=False)


def _reference_style(condition: str) -> dict[str, object]:
    return {"color": CONDITION_COLOURS[condition], "linewidth": 0.9, "linestyle": (0, (1, 1.2)), "zorder": 1.5}


def _curve_style(condition: str, base: str) -> dict[str, object]:
    return {
        "color": CONDITION_COLOURS[condition], "linestyle": _BASE_STYLES.get(base, "-"), "zorder": 2.5,
        "marker": {"add": "o", "remove": "s"}.get(condition, ""), "markersize": 2.6, "linewidth": 1.3,
    }  # fmt: skip


def _key(frame: pd.DataFrame) -> list[Line2D]:
    pairs = frame[["condition", "base"]].drop_duplicates()
    handles = [
        Line2D([], [], **_curve_style(row.condition, row.base), label=f"{_NAMES[row.condition]} ({row.base} prompt)")
        for row in pairs.itertuples()
        if row.condition in _NAMES
    ]
    labels = {"none": "zero-shot, no intervention", "few-shot": "few-shot, no intervention"}
    present = set(pairs["condition"])
    handles += [Line2D([], [], **_reference_style(c), label=labels[c]) for c in _REFERENCES if c in present]
    return handles
