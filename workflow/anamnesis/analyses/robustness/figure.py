"""How much vectors depend on the prompts they are made from: heads compared with gradient descent."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from anamnesis.analyses.robustness.tables import BOTH, COLUMNS, HEADS, NONE, OPTIMISED, robustness_table
from anamnesis.figures.panels import DASHED, DOTTED, check, per_cent, title
from anamnesis.figures.style import INK, MUTED, Drawn, new_figure, styled

# colours that no method has, told apart by dashes and markers too
_STYLES = {
    HEADS: {"color": "#332288", "linestyle": "-", "marker": "o"},
    OPTIMISED: {"color": "#cc79a7", "linestyle": DASHED, "marker": "s"},
    BOTH: {"color": MUTED, "linestyle": DOTTED, "marker": "D"},
}
_NAMES = {
    HEADS: "sum of head outputs",
    OPTIMISED: "optimised vector",
    BOTH: "above: one against the other, same examples",
}
_APART = {HEADS: 0.97, OPTIMISED: 1.03, BOTH: 1.0}  # side by side on the logarithmic axis


def robustness(frame: pd.DataFrame) -> Figure:
    """A column per set. Above: cosine between vectors of disjoint draws of prompts; below: zero-shot accuracy
    (per cent) with a vector added; both against the number of prompts.

    Parameters
    ----------
    frame : ``robustness.tables.COLUMNS``.

    Lines: means; whiskers: one s.d. over draws, or pairs of draws, which are the small points. Raises
    UserError for an empty frame or a missing column.
    """
    check(frame, COLUMNS, "table of robustness")
    sets = list(frame["set"].unique())
    table = robustness_table(frame)
    lowest = min(0.0, float(frame.loc[frame["measure"] == "cosine", "value"].min()) - 0.05)
    with styled():
        figure = new_figure(4.1)
        panels = figure.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
        for name, (cosine, accuracy) in zip(sets, panels.T, strict=True):
            points, means = frame[frame["set"] == name], table[table["set"] == name]
            title(cosine, name, 88 // len(sets))
            _draw(cosine, points, means, "cosine", 1)
            _draw(accuracy, points, means, "accuracy", 100)
            base = means[means["extractor"] == NONE].iloc[0]
            accuracy.axhline(100 * base["mean"], color=INK, linestyle=DOTTED, linewidth=1.0)
            note = f"after layer {base['layer']}, n = {base['n']}"
            accuracy.set_title(note, loc="right", fontsize=6.5)
            cosine.set_ylim(lowest, 1.04)
            per_cent(accuracy)
            _sizes(accuracy, points)
        panels[0, 0].set_ylabel("Cosine between draws")
        panels[1, 0].set_ylabel("Zero-shot accuracy (%)")
        figure.legend(handles=_key(), loc="outside upper center", ncols=2)
    return figure


def draw(frame: pd.DataFrame) -> Drawn:
    """From the table of all sets."""
    return Drawn(robustness(frame), frame)


def _draw(axes: Axes, points: pd.DataFrame, means: pd.DataFrame, measure: str, scale: float) -> None:
    for extractor, style in _STYLES.items():
        shown = points[(points["measure"] == measure) & (points["extractor"] == extractor)]
        line = means[(means["measure"] == measure) & (means["extractor"] == extractor)].sort_values("prompts")
        if line.empty:
            continue
        apart = _APART[extractor]
        axes.scatter(
            apart * shown["prompts"], scale * shown["value"], s=5, color=style["color"], alpha=0.55,
            linewidths=0, zorder=3, clip_on=False,
        )  # fmt: skip
        axes.errorbar(
            apart * line["prompts"], scale * line["mean"], scale * line["sd"], **style, markersize=3.4,
            linewidth=1.2, elinewidth=0.7, capsize=1.8, clip_on=False,
        )  # fmt: skip


def _sizes(axes: Axes, points: pd.DataFrame) -> None:
    sizes = sorted(int(n) for n in points["prompts"].unique() if n > 0)
    axes.set_xscale("log")
    axes.set_xlim(0.85 * sizes[0], sizes[-1] / 0.85)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Prompts per vector", labelpad=1)


def _key() -> list[Line2D]:
    lines = [Line2D([], [], **style, markersize=3.6, label=_NAMES[e]) for e, style in _STYLES.items()]
    base = Line2D([], [], color=INK, linestyle=DOTTED, linewidth=1.0, label="below: no vector added")
    return [*lines, base]
