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

from anamnesis.core.errors import UserError, unknown
from anamnesis.figures.style import CONDITION_COLOURS, INK, Drawn, new_figure, readable, styled
from anamnesis.stats.forgetting import require_columns
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
    require_columns(frame, columns, "table of interventions")
    if frame.empty:
        raise UserError("the table of interventions is empty: there is nothing to draw")
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
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place < len(sets):
                _draw_panel(axes, frame[frame["set"] == sets[place]], styles)
                _mark_layers(axes, {condition: found.get(sets[place]) for condition, found in layers.items()})
                axes.set_xlabel("Layer" if place // columns == rows - 1 else "")
            else:
                axes.set_visible(False)
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
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])
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
            axes.plot(
                [layer], [-0.02], marker="^", markersize=size, color=CONDITION_COLOURS[condition],
                clip_on=False, transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _reference_style(condition: str) -> dict[str, object]:
    return {
        "color": CONDITION_COLOURS[condition],
        "linewidth": 1.1,
        "linestyle": (0, (1, 1.2)),
        "zorder": 1.5,
    }


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
            "linestyle": (0, (3.2, 1.4)) if tried[row.condition] > 1 and row.base == "few-shot" else "-",
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
        mark = {"color": INK, "marker": "^", "markersize": 4, "linewidth": 0}
        handles.append(Line2D([], [], **mark, label="layer chosen on validation examples"))
    return handles
