"""What adding or removing the instruction vector does to accuracy, layer by layer (after appendix E of the
IV paper).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.core.errors import unknown
from anamnesis.figures.panels import DASHED, DOTTED, check, grid, mark_layer, per_cent, point_key
from anamnesis.figures.style import CONDITION_COLOURS, INK, Drawn, new_figure, readable, styled
from anamnesis.stats.layers import chosen_layers

_REFERENCES = ("none", "few-shot")
_NAMES = {
    "add": "vector added to the {} prompt",
    "remove": "vector removed from the {} prompt",
    "random": "random vector of equal norm, {} prompt",
}


def interventions(frame: pd.DataFrame) -> Figure:
    """One panel per set: accuracy on test examples (per cent) against the layer after which a vector is added
    or removed.

    Parameters
    ----------
    frame : ``set, split, layer, condition, base, accuracy, n``; condition is none, few-shot (both without a
        layer: -1), add, remove or random; base says which prompt the vector is put into. Several rows for one
        layer are averaged. Rows of validation examples are not drawn: they choose the marked layers.

    Horizontal lines show the prompts without intervention. Raises UserError for an empty frame, a missing
    column or an unknown condition.
    """
    columns = ["set", "split", "layer", "condition", "base", "accuracy", "n"]
    check(frame, columns, "table of interventions")
    for condition in frame["condition"].unique():
        if condition not in CONDITION_COLOURS:
            raise unknown("condition", condition, CONDITION_COLOURS)
    layers = {condition: chosen_layers(frame, condition) for condition in ("add", "remove")}
    frame = frame[frame["split"] == "test"]
    sets = list(frame["set"].unique())
    columns = min(len(sets), 2 if len(sets) in (2, 4) else 3)
    rows = math.ceil(len(sets) / columns)
    with styled():
        figure = new_figure(1.75 * rows + 0.8)
        styles = _styles(frame)
        panels = grid(figure, len(sets), columns, sharey=True)
        for place, (name, axes) in enumerate(zip(sets, panels.flat, strict=False)):
            _draw_panel(axes, frame[frame["set"] == name], styles)
            _mark_layers(axes, {condition: found.get(name) for condition, found in layers.items()})
            axes.set_xlabel("Layer" if place // columns == rows - 1 else "")
        for axes in panels[:, 0]:
            axes.set_ylabel("Accuracy (%)")
        figure.legend(handles=_key(frame, styles), loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


def draw(frames: Sequence[pd.DataFrame]) -> Drawn:
    """From the tables of interventions, one per set."""
    data = pd.concat(frames, ignore_index=True)
    return Drawn(interventions(data), data)


def _draw_panel(axes: Axes, data: pd.DataFrame, styles: Mapping[tuple[str, str], dict[str, object]]) -> None:
    counts = sorted({int(n) for n in data["n"]})
    examples = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    axes.set_title(f"{readable(data['set'].iloc[0])}  (n = {examples})")
    per_cent(axes)
    axes.locator_params(axis="x", integer=True, nbins=8)
    for condition in _REFERENCES:
        values = data.loc[data["condition"] == condition, "accuracy"]
        if len(values):
            axes.axhline(100 * values.mean(), **_reference_style(condition))
    for (condition, base), style in styles.items():
        part = data[(data["condition"] == condition) & (data["base"] == base)]
        values = 100 * part.groupby("layer")["accuracy"].mean()
        axes.plot(values.index, values, **style, clip_on=False)


def _mark_layers(axes: Axes, chosen: Mapping[str, int | None]) -> None:
    """A triangle below the axis for the layer of each condition; one layer for both has one in the other."""
    for size, (condition, layer) in zip((4.4, 2.4), chosen.items(), strict=True):
        if layer is not None:
            mark_layer(axes, layer, size, CONDITION_COLOURS[condition])


def _reference_style(condition: str) -> dict[str, object]:
    return {"color": CONDITION_COLOURS[condition], "linewidth": 1.1, "linestyle": DOTTED, "zorder": 1.5}


def _styles(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, object]]:
    """How each (condition, base) is drawn; dashes mark the few-shot prompt where a condition was tried on
    both.
    """
    curves = frame.loc[~frame["condition"].isin(_REFERENCES), ["condition", "base"]].drop_duplicates()
    curves = curves.sort_values("condition", key=lambda c: c.map({name: i for i, name in enumerate(_NAMES)}))
    tried = curves["condition"].value_counts()
    return {
        (row.condition, row.base): {
            "color": CONDITION_COLOURS[row.condition],
            "linestyle": DASHED if tried[row.condition] > 1 and row.base == "few-shot" else "-",
            "marker": {"add": "o", "remove": "s"}.get(row.condition, ""),
            "markersize": 2.4,
            "linewidth": 1.2,
            "zorder": 2.0 if row.condition == "random" else 2.5,
        }
        for row in curves.itertuples()
    }


def _key(frame: pd.DataFrame, styles: Mapping[tuple[str, str], dict[str, object]]) -> list[Line2D]:
    handles = [
        Line2D([], [], **style, label=_NAMES[condition].format(base))
        for (condition, base), style in styles.items()
    ]
    labels = {"none": "zero-shot, no intervention", "few-shot": "few-shot, no intervention"}
    present = set(frame["condition"])
    handles += [Line2D([], [], **_reference_style(c), label=labels[c]) for c in _REFERENCES if c in present]
    if styles:
        handles.append(point_key("layer chosen on validation examples", "^", color=INK, markersize=4))
    return handles
