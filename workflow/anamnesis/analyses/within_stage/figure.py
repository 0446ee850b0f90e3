"""Effects and outputs of heads from step to step within a stage."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.within_stage.tables import COLUMNS, FALLERS, FORMS, GROUPS, RISERS, SELECTED, pooled
from anamnesis.core.errors import unknown
from anamnesis.figures.panels import DASHED, DOTTED, UNITS, check, head_map, per_cent
from anamnesis.figures.style import INK, MUTED, Drawn, new_figure, styled

# colours that no method has, told apart by dashes and markers too
_STYLES = {
    SELECTED: {"color": INK, "linestyle": "-", "marker": "o"},
    RISERS: {"color": "#cc3377", "linestyle": DASHED, "marker": "^"},
    FALLERS: {"color": "#2299bb", "linestyle": DOTTED, "marker": "v"},
}
_ANSWERS = {
    "few-shot": {"color": INK, "linestyle": "-", "marker": "s"},
    "zero-shot": {"color": MUTED, "linestyle": DASHED, "marker": "D"},
}
_SMALL = {"markersize": 2.8, "linewidth": 1.2, "clip_on": False}


def within_stage(frame: pd.DataFrame, unit: str = "probability") -> Figure:
    """A row for each method and stage: summed effects of three groups of heads, the norm of their outputs,
    accuracy (per cent), and the change of every head's effect over the stage.

    Parameters
    ----------
    frame : ``method, order, seed, stage`` and ``within_stage.tables.COLUMNS``; chains of a method are
        averaged, intervals too.
    unit : "probability" or "log_probability", whichever effects are in.

    Raises UserError for an empty frame, a missing column or an unknown unit.
    """
    check(frame, ["method", "order", "seed", "stage", *COLUMNS], "table of steps within a stage")
    if unit not in UNITS:
        raise unknown("unit of effect", unit, UNITS)
    rows = list(frame.groupby(["method", "stage"], sort=False))
    maps = {key: _change_map(data) for key, data in rows}
    # one strong head must not make all others pale
    limit = max(float(grid.abs().stack().nlargest(2).min()) for grid in maps.values()) or 1.0
    with styled():
        figure = new_figure(0.85 + 1.75 * len(rows))
        panels = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[1.25, 1.25, 1.25, 1])
        for (key, data), line in zip(rows, panels, strict=True):
            _draw_groups(line[0], data, "effect")
            _draw_groups(line[1], data, "norm")
            _draw_answers(line[2], data)
            image = _draw_map(line[3], maps[key], data, limit)
            line[0].set_ylabel(f"{key[0]}, stage {key[1]}\nSummed effect ({UNITS[unit]})")
            line[1].set_ylabel("Norm, start = 1")
            line[2].set_ylabel("Accuracy (%)")
            bar = figure.colorbar(image, ax=line[3], pad=0.03, aspect=22, extend="both")
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=6, length=2)
        for axes, text in zip(panels[0], _TITLES, strict=True):
            axes.set_title(text, fontsize=7.5)
        for axes in panels[-1, :3]:
            axes.set_xlabel("Step", labelpad=1)
        panels[-1, 3].set_xlabel("Head", labelpad=1)
        figure.legend(handles=_key(frame), loc="outside lower center", ncols=5)
    return figure


_TITLES = ("Effect of groups of heads", "Output of such heads", "Held-out sets", "Change of effect")


def draw(frame: pd.DataFrame, unit: str) -> Drawn:
    """From the table of all stages looked into; ``unit``: the scale of effects."""
    return Drawn(within_stage(frame, unit), frame)


def _draw_groups(axes: Axes, data: pd.DataFrame, measure: str) -> None:
    for group in GROUPS:
        part = data[(data["measure"] == measure) & (data["name"] == group)]
        mean = part.groupby("step")[["value", "low", "high"]].mean()
        axes.plot(mean.index, mean["value"], **_STYLES[group], **_SMALL)
        axes.fill_between(
            mean.index, mean["low"], mean["high"], color=_STYLES[group]["color"], alpha=0.14, linewidth=0
        )
    start = 1.0 if measure == "norm" else 0.0
    axes.axhline(start, color=MUTED, linewidth=0.5, zorder=1)
    axes.locator_params(axis="x", integer=True, nbins=5)


def _draw_answers(axes: Axes, data: pd.DataFrame) -> None:
    found = pooled(data)
    for form in FORMS:
        part = found[found["form"] == form]
        error = [part["value"] - part["low"], part["high"] - part["value"]]
        axes.errorbar(
            part["step"], 100 * part["value"], [100 * e for e in error], **_ANSWERS[form], **_SMALL,
            elinewidth=0.7, capsize=1.6,
        )  # fmt: skip
    per_cent(axes)
    axes.locator_params(axis="x", integer=True, nbins=5)


def _change_map(data: pd.DataFrame) -> pd.DataFrame:
    """(layers, heads): the mean effect at the last step minus that at the first."""
    heads = data[data["measure"] == "head effect"]
    first, last = heads["step"].min(), heads["step"].max()
    at = heads.groupby(["step", "layer", "head"])["value"].mean()
    return (at.loc[last] - at.loc[first]).unstack("head")


def _draw_map(axes: Axes, grid: pd.DataFrame, data: pd.DataFrame, limit: float):
    own = data[(data["measure"] == "head effect") & (data["name"] == SELECTED)]
    outlined = own[["layer", "head"]].drop_duplicates().itertuples(index=False)
    image = head_map(axes, grid, limit, outlined, 0.7)
    axes.set_ylabel("Layer", labelpad=1)
    axes.locator_params(axis="both", integer=True, nbins=5)
    return image


def _key(frame: pd.DataFrame) -> list[Line2D]:
    size = int((frame["measure"].eq("head effect") & frame["name"].eq(SELECTED)).groupby(
        [frame["method"], frame["order"], frame["seed"], frame["stage"], frame["step"]]
    ).sum().max())  # fmt: skip
    names = {
        SELECTED: f"S, the first {size} heads", RISERS: f"the {size} that rise most",
        FALLERS: f"the {size} that fall most",
    }  # fmt: skip
    groups = [Line2D([], [], **_STYLES[g], markersize=3.2, label=names[g]) for g in GROUPS]
    return groups + [Line2D([], [], **_ANSWERS[f], markersize=3.2, label=f) for f in FORMS]
