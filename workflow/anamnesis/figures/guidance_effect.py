"""What guidance changes, method by method: every chain of a method compared with that of its guided form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from anamnesis.core.errors import UserError
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.figures.measures import TITLES, limits, shown_measures
from anamnesis.figures.style import FAINT, INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.forgetting import require_columns
from anamnesis.stats.intervals import paired_interval
from anamnesis.stats.summary import MEASURES, paired_differences

_LEAST_PAIRS = 3  # with two, Student's interval is wider than any panel
_TEXT, _LINE, _GAP = 0.17, 0.105, 0.10  # heights in inches: the numbers of a row, a chain, the space below
_AROUND = 1.0  # inches above and below the rows
_MARKERS = "osD^v"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A row: the two names, their chains (index order, seed), the differences, and where the row begins."""

    plain: str
    guided: str
    levels: pd.DataFrame
    differences: pd.DataFrame
    top: float

    @property
    def height(self) -> float:
        return _TEXT + _LINE * len(self.differences) + _GAP


def guidance_effect(frame: pd.DataFrame, resamples: int = 10_000, confidence: float = 0.95) -> Figure:
    """One row per method with a guided form, one panel per measure (per cent): from each chain (hollow) to
    that of the same order and seed under guidance (filled).

    Parameters
    ----------
    frame : ``method, order, seed, hp, ip, op, forgetting, bwt``, one row per chain
        (``stats.summary.chain_measures``); methods without a guided form are left out.
    resamples, confidence : of ``stats.intervals.paired_interval``, which is printed from three pairs on.

    Raises UserError for a missing column or when no method has a guided form with a chain of the same order
    and seed.
    """
    require_columns(frame, ["method", "order", "seed", *MEASURES], "table of measures")
    pairs = _pairs(frame)
    if not pairs:
        raise UserError(f"no method has a guided form (<method>{GUIDED_SUFFIX}): there is nothing to draw")
    bottom = pairs[-1].top + pairs[-1].height
    shown = frame[frame["method"].isin([name for pair in pairs for name in (pair.plain, pair.guided)])]
    measures = shown_measures(shown)
    with styled():
        figure = new_figure(bottom + _AROUND)
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(panels, measures, strict=True):
            for pair in pairs:
                _draw_pair(axes, pair, measure, len(shown["order"].unique()) > 1)
                _say_difference(axes, pair, measure, resamples, confidence)
            _finish(axes, pairs, bottom)
            axes.set_title(TITLES[measure], fontsize=7.5)
            axes.set_xlim(limits(shown[measure]))
            axes.set_xlabel("%", labelpad=1)
        key = _key(shown, confidence, max(len(pair.differences) for pair in pairs))
        figure.legend(handles=key, loc="outside lower center", ncols=4, columnspacing=1.5)
    return figure


def draw(frame: pd.DataFrame, statistics: Mapping[str, Any]) -> Drawn:
    """From the measures of all chains; ``statistics``: of the intervals."""
    return Drawn(guidance_effect(frame, statistics["bootstrap_resamples"], statistics["confidence"]), frame)


def _pairs(frame: pd.DataFrame) -> list[_Pair]:
    pairs: list[_Pair] = []
    methods = list(dict.fromkeys(frame["method"]))
    for plain in methods:
        guided = plain + GUIDED_SUFFIX
        differences = paired_differences(frame, plain, guided)
        if guided in methods and len(differences):
            levels = frame[frame["method"] == plain].set_index(["order", "seed"]).loc[differences.index]
            top = pairs[-1].top + pairs[-1].height if pairs else 0.0
            pairs.append(_Pair(plain, guided, levels, differences, top))
    return pairs


def _draw_pair(axes: Axes, pair: _Pair, measure: str, several_orders: bool) -> None:
    colours = method_colour(pair.plain), method_colour(pair.guided)
    for place, (order, seed) in enumerate(pair.differences.index):
        y = pair.top + _TEXT + _LINE * (place + 0.5)
        start = 100 * pair.levels.loc[(order, seed), measure]
        end = start + 100 * pair.differences.loc[(order, seed), measure]
        marker = _MARKERS[(int(order) - 1) % len(_MARKERS)] if several_orders else "o"
        axes.plot([start, end], [y, y], color=colours[1], linewidth=1.0, alpha=0.55, zorder=2)
        axes.plot([end], [y], marker, color=colours[1], markersize=3.6, zorder=3)
        # on top and see-through, so that both show where nothing changed
        axes.plot([start], [y], marker, color=colours[0], fillstyle="none", markersize=4.6, zorder=4)


def _say_difference(axes: Axes, pair: _Pair, measure: str, resamples: int, confidence: float) -> None:
    values = pair.differences[measure].dropna().to_numpy(dtype=float)
    if not len(values):
        return
    text = f"{100 * values.mean():+z.1f}"
    if len(values) >= _LEAST_PAIRS:
        low, high, _ = paired_interval(values, resamples, confidence)
        text += f" [{100 * low:+z.1f}, {100 * high:+z.1f}]" if math.isfinite(low) else ""
    axes.text(
        0.01,
        pair.top + 0.03,
        text.replace("-", "−"),
        transform=axes.get_yaxis_transform(),
        fontsize=6.5,
        va="top",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
        zorder=5,
    )


def _finish(axes: Axes, pairs: list[_Pair], bottom: float) -> None:
    names = [f"{pair.plain}\nn = {len(pair.differences)}" for pair in pairs]
    axes.set_yticks([pair.top + (pair.height - _GAP / 2) / 2 for pair in pairs], names)
    for label in axes.get_yticklabels():
        label.set_multialignment("right")
    axes.set_ylim(bottom, -0.04)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.locator_params(axis="x", nbins=5)
    for pair in pairs[1:]:
        axes.axhline(pair.top - _GAP / 4, color=FAINT, linewidth=0.6, zorder=1)


def _key(frame: pd.DataFrame, confidence: float, most: int) -> list[Line2D]:
    point = {"marker": "o", "linewidth": 0, "color": MUTED}
    handles = [
        Line2D([], [], **point, markersize=4.6, fillstyle="none", label="plain method"),
        Line2D([], [], **point, markersize=3.6, label=f"guided ({GUIDED_SUFFIX})"),
        Line2D([], [], color=MUTED, linewidth=1.0, label="one order and seed"),
    ]
    orders = sorted(int(order) for order in frame["order"].unique())
    if len(orders) > 1:
        handles += [
            Line2D([], [], color=MUTED, linewidth=0, marker=_MARKERS[(k - 1) % len(_MARKERS)], markersize=3.6,
                   label=f"order {k}")
            for k in orders
        ]  # fmt: skip
    interval = f" [{100 * confidence:g} % interval]" if most >= _LEAST_PAIRS else ""
    said = Line2D([], [], color=INK, linewidth=0, marker="$\\mathregular{+1.0}$")
    said.set(markersize=14, markeredgewidth=0)
    said.set_label(f"mean difference, points{interval}")
    return [*handles[:3], said, *handles[3:]]
