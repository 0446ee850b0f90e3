"""HP, IP, knowledge and OP of each method, with every chain as a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.core.errors import UserError
from anamnesis.figures.measures import offsets
from anamnesis.figures.panels import DOTTED, point_key
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.forgetting import require_columns
from anamnesis.stats.held_out import MEAN, marked_note
from anamnesis.stats.summary import BASELINE

_MOST_SIDE_BY_SIDE = 8
_TITLES = {
    "hp": "HP: held-out, zero-shot",
    "ip": "IP: held-out, few-shot",
    "knowledge": "Knowledge: held-out, zero-shot",
    "op": "OP: training tasks, zero-shot",
}


def summary_bars(frame: pd.DataFrame, held_out: pd.DataFrame | None = None) -> Figure:
    """One panel each for HP, IP, knowledge and OP (per cent): a bar per method (mean), a point per chain, a
    whisker of ± one s.d.

    Parameters
    ----------
    frame : ``method, hp, ip, knowledge, op`` with one row per chain (``stats.summary.chain_measures``);
        the row of the model before training is drawn as a horizontal line. Without a knowledge form that
        panel is left out.
    held_out : table of ``stats.held_out``; from it each panel of held-out sets says how many of its
        sets are at floor or chance.

    Raises UserError for a missing column or when no method is there.
    """
    require_columns(frame, ["method", *_TITLES], "table of measures")
    titles = {name: text for name, text in _TITLES.items() if frame[name].notna().any()}
    methods = [m for m in frame["method"].unique() if m != BASELINE]
    if not methods:
        raise UserError("the table of measures has no trained method: there is nothing to draw")
    with styled():
        side_by_side = len(methods) <= _MOST_SIDE_BY_SIDE
        figure = new_figure(2.9 if side_by_side else 6.0)
        shape = (1, len(titles)) if side_by_side else (len(titles), 1)
        panels = figure.subplots(*shape, sharex=True, sharey=True)
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            _draw_panel(axes, frame, methods, name)
            axes.set_title(title + _marked(held_out, name), fontsize=6.6)
            axes.set_ylim(0, _top(frame, methods, [*titles]))
        for axes in panels[:1] if side_by_side else panels:
            axes.set_ylabel("Accuracy at the end (%)")
        figure.legend(handles=_key(frame), loc="outside lower center", ncols=4)
    return figure


def draw(frame: pd.DataFrame, held_out: pd.DataFrame) -> Drawn:
    """From the measures of all chains and the table of held-out sets."""
    return Drawn(summary_bars(frame, held_out), frame)


def _marked(held_out: pd.DataFrame | None, measure: str) -> str:
    """A line below a panel's title: how many of its sets have nothing to lose."""
    if held_out is None:
        return ""
    rows = held_out[(held_out["measure"] == measure) & (held_out["set"] == MEAN)]
    if rows.empty:
        return "\n"
    first = rows.iloc[0]
    return f"\n{first['sets']} sets, {marked_note(first['marked'])}"


def _draw_panel(axes: Axes, frame: pd.DataFrame, methods: Sequence[str], name: str) -> None:
    before = frame.loc[frame["method"] == BASELINE, name].dropna()
    if len(before):
        axes.axhline(100 * before.mean(), color=INK, linewidth=1.0, linestyle=DOTTED, zorder=3)
    for place, method in enumerate(methods):
        values = 100 * frame.loc[frame["method"] == method, name].to_numpy(dtype=float)
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        axes.bar(place, values.mean(), width=0.68, color=method_colour(method, methods), alpha=0.85, zorder=2)
        if len(values) > 1:
            whisker = {"fmt": "none", "ecolor": INK, "elinewidth": 1.0, "capsize": 2.5, "zorder": 4}
            axes.errorbar(place, values.mean(), yerr=spread, **whisker)
        axes.scatter(
            place + offsets(len(values), 0.4),
            values,
            s=7,
            color="white",
            edgecolors=INK,
            linewidths=0.6,
            zorder=5,
        )
        axes.annotate(
            f"{values.mean():.1f}", (place, max(values.max(), values.mean() + spread)), xytext=(0, 3.5),
            textcoords="offset points", ha="center", va="bottom", fontsize=7 if len(methods) < 5 else 6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85}, zorder=6,
        )  # fmt: skip
    _name_methods(axes, frame, methods)


def _name_methods(axes: Axes, frame: pd.DataFrame, methods: Sequence[str]) -> None:
    counts = frame["method"].value_counts()
    slanted = len(methods) > 3
    labels = [f"{m} (n={counts[m]})" if slanted else f"{m}\n(n={counts[m]})" for m in methods]
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(len(methods)), labels, **slant)
    axes.set_xlim(-0.6, len(methods) - 0.4)
    axes.tick_params(axis="x", length=0)


def _top(frame: pd.DataFrame, methods: Sequence[str], names: Sequence[str]) -> float:
    """Upper end of the common axis: the highest point or whisker, with room for the number above it."""
    groups = frame[frame["method"].isin(methods)].groupby("method")[names]
    whiskers = (groups.mean() + groups.std(ddof=1).fillna(0.0)).to_numpy().max()
    highest = 100 * max(whiskers, np.nanmax(frame[names].to_numpy(dtype=float)))
    return min(110.0, 10.0 * np.ceil((highest + 8.0) / 10.0))


def _key(frame: pd.DataFrame) -> list[Line2D]:
    handles = [
        Line2D([], [], color=MUTED, linewidth=6, label="bar: mean"),
        point_key("point: one chain (order, seed)", color=INK, markerfacecolor="white", markersize=4),
        point_key("whisker: ± 1 s.d.", "|", color=INK, markersize=7),
    ]
    if (frame["method"] == BASELINE).any():
        handles.append(Line2D([], [], color=INK, linestyle=DOTTED, linewidth=1.0, label="before training"))
    return handles
