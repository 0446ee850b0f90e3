"""Differences between methods, chain by chain: of guided methods to plain ones, of methods to plain
fine-tuning, of variants and controls to what they are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.core.errors import UserError
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.figures.measures import TITLES, limits, offsets, shown_measures
from anamnesis.figures.panels import rows_by_name
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.forgetting import require_columns
from anamnesis.stats.intervals import paired_interval
from anamnesis.stats.summary import paired_differences

KINDS = {
    "guidance": "Guidance: each method under guidance − the method",
    "method": "Methods: each − inclora",
    "variant": "Variants and controls: each − what it is compared with",
}
COLUMNS = ("kind", "method", "against", "order", "seed", *TITLES)
_ROW, _HEAD, _AROUND = 0.2, 0.42, 0.75  # inches: a comparison, the title of a kind, above and below all
_LEAST_PAIRS = 3  # with two, Student's interval is wider than any panel


def comparisons_frame(measures: pd.DataFrame, compared: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """One row per comparison, order and seed, with the differences method − against (fractions).

    Parameters
    ----------
    measures : ``stats.summary.chain_measures``.
    compared : rows ``kind, method, against`` (``config.variants.paired_comparisons``). Guided methods are
        added to them, each against the plain one.
    """
    require_columns(measures, ["method", "order", "seed", *TITLES], "table of measures")
    methods = list(dict.fromkeys(measures["method"]))
    guided = [
        {"kind": "guidance", "method": name + GUIDED_SUFFIX, "against": name}
        for name in methods
        if name + GUIDED_SUFFIX in methods
    ]
    parts = [pd.DataFrame(columns=list(COLUMNS))]
    for row in [*guided, *compared]:
        pairs = paired_differences(measures, row["against"], row["method"]).reset_index()
        parts.append(pairs.assign(**row)[list(COLUMNS)])
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def comparisons(frame: pd.DataFrame, resamples: int = 10_000, confidence: float = 0.95) -> Figure:
    """One row per comparison, one panel per measure (points): the difference of every order and seed, their
    mean, and its interval from three pairs on (``stats.intervals.paired_interval``).

    ``frame``: :func:`comparisons_frame`. Raises UserError for a missing column or an empty frame.
    """
    require_columns(frame, list(COLUMNS), "table of differences")
    if frame.empty:
        raise UserError("no two methods are compared: there is nothing to draw")
    kinds = [kind for kind in KINDS if kind in set(frame["kind"])]
    parts = {kind: frame[frame["kind"] == kind] for kind in kinds}
    rows = {kind: part.groupby(["method", "against"], sort=False).ngroups for kind, part in parts.items()}
    shown, names = shown_measures(frame), list(dict.fromkeys(frame["method"]))
    with styled():
        figure = new_figure(_AROUND + sum(_HEAD + _ROW * count for count in rows.values()))
        heights = [_ROW * rows[kind] for kind in kinds]
        grid = figure.subplots(len(kinds), len(shown), squeeze=False, height_ratios=heights, sharex="col")
        for number, (panels, kind) in enumerate(zip(grid, kinds, strict=True)):
            for axes, measure in zip(panels, shown, strict=True):
                _draw(axes, parts[kind], measure, names, resamples, confidence)
                axes.set_xlim(_limits(frame[measure]))
                # an empty line above, where the head of the row stands
                axes.set_title(f"\n{TITLES[measure]}" if number == 0 else " ", fontsize=7, linespacing=1.7)
            for axes in panels[1:]:
                axes.set_yticklabels([])
            panels[0].annotate(
                KINDS[kind], (0, 1), xytext=(0, 17 if number == 0 else 5), textcoords="offset points",
                xycoords="axes fraction", fontweight="bold", fontsize=8, va="bottom", in_layout=False,
            )  # fmt: skip
        for axes in grid[-1]:
            axes.set_xlabel("points", labelpad=1)
        figure.legend(handles=_key(confidence), loc="outside lower center", ncols=4)
    return figure


def draw(frame: pd.DataFrame, compared: Sequence[Mapping[str, str]], statistics: Mapping[str, Any]) -> Drawn:
    """From the measures of all chains. ``compared``: which methods, besides guided and plain ones;
    ``statistics``: of the intervals.
    """
    data = comparisons_frame(frame, compared)
    return Drawn(comparisons(data, statistics["bootstrap_resamples"], statistics["confidence"]), data)


def _limits(values: pd.Series) -> tuple[float, float]:
    """Room for all differences and for most of the intervals; what goes further is cut at the edge."""
    return limits([0.0, *(1.6 * values.dropna())])


def _draw(
    axes: Axes, part: pd.DataFrame, measure: str, names: Sequence[str], resamples: int, confidence: float
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    labels = []
    for place, ((method, against), rows) in enumerate(part.groupby(["method", "against"], sort=False)):
        values = rows[measure].dropna().to_numpy(dtype=float)
        colour, guided = method_colour(method, names), against + GUIDED_SUFFIX == method
        labels.append(method if guided or part["kind"].iloc[0] == "method" else f"{method} − {against}")
        if not len(values):
            continue
        y = place + offsets(len(values), 0.5)
        axes.scatter(100 * values, y, s=5, color="white", edgecolors=colour, linewidths=0.6, zorder=2)
        if len(values) >= _LEAST_PAIRS:
            low, high, _ = paired_interval(values, resamples, confidence)  # NaN is not drawn
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.6, zorder=3)
        axes.plot([100 * values.mean()], [place], "o", color=colour, markersize=4, zorder=4)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    rows_by_name(axes, labels, 5)


def _key(confidence: float) -> list[Line2D]:
    point = {"marker": "o", "linewidth": 0, "color": MUTED}
    return [
        Line2D([], [], **point, markersize=3, markerfacecolor="white", label="one order and seed"),
        Line2D([], [], **point, markersize=4, label="mean"),
        Line2D(
            [], [], color=MUTED, linewidth=1.6, label=f"{100 * confidence:g} % interval (n ≥ {_LEAST_PAIRS})"
        ),
    ]
