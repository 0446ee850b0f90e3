"""How much accuracy each form of the tasks gains or loses (the summary of figure 3 of arXiv 2406.12227)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.analyses.checkpoints.changes import form_changes as changes_by_form
from anamnesis.figures.panels import check, method_key
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled

_TITLES = {
    "train_task": "Training tasks",
    "held_out": "Held-out sets",
    "both_forms": "Held-out sets with both forms",
}


def form_changes(frame: pd.DataFrame) -> Figure:
    """Bars: mean change in points from before training to after the last stage, by role, form and method.

    Parameters
    ----------
    frame : ``method, order, seed, role, form, sets, change`` (``checkpoints.changes.form_changes``).

    One point per chain; whiskers of one s.d. (ddof=1; none for one chain). Raises UserError for an empty
    frame or a missing column.
    """
    check(frame, ["method", "role", "form", "sets", "change"], "table of changes")
    roles = [role for role in _TITLES if role in set(frame["role"])]
    methods = list(frame["method"].unique())
    with styled():
        figure = new_figure(2.7)
        widths = [frame.loc[frame["role"] == role, "form"].nunique() for role in roles]
        panels = figure.subplots(1, len(roles), sharey=True, squeeze=False, width_ratios=widths)[0]
        for axes, role in zip(panels, roles, strict=True):
            _draw(axes, frame[frame["role"] == role], methods)
            sets = int(frame.loc[frame["role"] == role, "sets"].max())
            axes.set_title(f"{_TITLES[role]} ({sets} sets)")
        panels[0].set_ylabel("Change of accuracy (points)")
        spread = [
            Line2D([], [], color=INK, marker="o", markerfacecolor="white", markersize=4, linewidth=0,
                   label="one chain"),
            Line2D([], [], color=INK, marker="|", markersize=7, linewidth=0, label="± 1 s.d."),
        ]  # fmt: skip
        figure.legend(handles=[*method_key(methods), *spread], loc="outside lower center", ncols=6)
    return figure


def draw(curves: pd.DataFrame) -> Drawn:
    """From the accuracy of all chains."""
    data = changes_by_form(curves)
    return Drawn(form_changes(data), data)


def _draw(axes: Axes, data: pd.DataFrame, methods: list[str]) -> None:
    forms, width = list(data["form"].unique()), 0.8 / len(methods)
    for i, method in enumerate(methods):
        for place, form in enumerate(forms):
            values = 100 * data.loc[(data["method"] == method) & (data["form"] == form), "change"].to_numpy()
            at = place + (i - (len(methods) - 1) / 2) * width
            axes.bar(at, values.mean(), 0.92 * width, color=method_colour(method, methods), alpha=0.85)
            if len(values) > 1:
                axes.errorbar(at, values.mean(), values.std(ddof=1), color=INK, elinewidth=0.9, capsize=2)
            offsets = np.linspace(-0.2, 0.2, len(values)) * width if len(values) > 1 else 0.0
            axes.scatter(at + offsets, values, s=6, color="white", edgecolors=INK, linewidths=0.5, zorder=4)
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.set_xticks(range(len(forms)), [form.replace(", ", ",\n") for form in forms])
    axes.tick_params(axis="x", length=0)
