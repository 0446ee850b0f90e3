"""What the settings of a method change: against a setting that is a number, and by name for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from anamnesis.core.errors import UserError
from anamnesis.figures.measures import TITLES, by_chain, limits, offsets, shown_measures
from anamnesis.figures.panels import rows_by_name
from anamnesis.figures.style import INK, MUTED, Drawn, method_colour, new_figure, styled
from anamnesis.stats.forgetting import require_columns

COMPARED = ("base", "setting", "method", "value")
_AROUND = 0.75  # inches: titles above a row of panels, numbers below
_CURVES, _NAMES, _PER_NAME, _KEY = 1.85, 0.85, 0.2, 0.45  # inches: rows of panels, a name in them, the key
_OWN_MEAN = {"linewidth": 0.8, "linestyle": (0, (3, 2))}


@dataclass(frozen=True, slots=True)
class _Part:
    """One comparison: of ``base``, against ``setting`` (empty: by name), with its rows and its height."""

    base: str
    setting: str
    rows: pd.DataFrame

    @property
    def height(self) -> float:
        return _CURVES if self.setting else _NAMES + _PER_NAME * self.rows["method"].nunique()


def variants_frame(measures: pd.DataFrame, comparisons: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The frame of :func:`variants`: each comparison's methods with the measures of their chains.

    Where a method was run in more orders and seeds than its variants, only those are taken that all methods
    of a comparison have, if there are any: means then differ by the setting alone.

    Parameters
    ----------
    measures : ``method, order, seed, hp, ip, op, forgetting`` (``stats.summary.chain_measures``).
    comparisons : rows ``base, setting, method, value`` (``config.variants.variant_comparisons``).
    """
    require_columns(measures, ["method", "order", "seed", *TITLES], "table of measures")
    compared = pd.DataFrame(list(comparisons), columns=list(COMPARED)).astype({"value": float})
    frame = compared.merge(measures[["method", "order", "seed", *TITLES]], on="method", how="left")
    parts = frame.groupby(["base", "setting"], sort=False, dropna=False)
    return pd.concat([_in_common(rows) for _, rows in parts] or [frame], ignore_index=True)


def _in_common(rows: pd.DataFrame) -> pd.DataFrame:
    """The orders and seeds of all methods of one comparison; all rows where there are none."""
    has = rows.groupby(["order", "seed"])["method"].transform("nunique")
    common = rows[has == rows.loc[rows["seed"].notna(), "method"].nunique()]
    return rows if common.empty else common


def variants(frame: pd.DataFrame) -> Figure:
    """One row per comparison, one panel per measure (per cent), one point per chain.

    Parameters
    ----------
    frame : ``base, setting, method, value, order, seed, hp, ip, op, forgetting`` (:func:`variants_frame`).
        Rows with a ``setting`` are drawn against ``value``, places evenly spaced by rank, with the mean and a
        band of ± one s.d. (ddof=1); rows without are drawn by name with their means.

    A measure has one scale in the whole figure. Raises UserError for a missing column or an empty frame.
    """
    require_columns(frame, [*COMPARED, "order", "seed", *TITLES], "table of variants")
    if frame.empty:
        raise UserError("no method listed is a variant: there is nothing to draw")
    parts, measures = _parts(frame), shown_measures(frame)
    methods = list(dict.fromkeys(frame["method"]))
    with styled():
        figure = new_figure(sum(part.height for part in parts) + _KEY)
        # the room of a panel without its titles, so that all names are equally far from each other
        ratios = [part.height - _AROUND for part in parts]
        grid = figure.subplots(len(parts), len(measures), squeeze=False, height_ratios=ratios)
        for panels, part in zip(grid, parts, strict=True):
            for axes, measure in zip(panels, measures, strict=True):
                span = limits(frame[measure])
                if part.setting:
                    _draw_curve(axes, part, measure, span)
                else:
                    _draw_names(axes, part, measure, span, methods)
                axes.set_title(f"\n{TITLES[measure]}", fontsize=7, linespacing=1.7)  # a line for the head
            _head(panels[0], part, parts)
            for axes in panels[1:] if not part.setting else ():
                axes.set_yticklabels([])
        key = _key(parts)
        figure.legend(handles=key, loc="outside lower center", ncols=3 if len(key) > 4 else 4)
    return figure


def draw(frame: pd.DataFrame, comparisons: Sequence[Mapping[str, Any]]) -> Drawn:
    """From the measures of all chains; ``comparisons``: which methods stand together."""
    data = variants_frame(frame, comparisons)
    return Drawn(variants(data), data)


def _parts(frame: pd.DataFrame) -> list[_Part]:
    named = frame.assign(setting=frame["setting"].astype(object).fillna(""))
    return [
        _Part(str(base), str(setting), rows)
        for (base, setting), rows in named.groupby(["base", "setting"], sort=False)
    ]


def _head(axes: Axes, part: _Part, parts: Sequence[_Part]) -> None:
    """What a row compares, above its first panel's title."""
    axes.annotate(
        _title(part, parts), (0, 1), xytext=(0, 17), textcoords="offset points", xycoords="axes fraction",
        fontweight="bold", fontsize=8, va="bottom", ha="left", in_layout=False,
    )  # fmt: skip
    axes.set_ylabel("%" if part.setting else "")


def _title(part: _Part, parts: Sequence[_Part]) -> str:
    if part.setting:
        # methods.<name>.<setting>, or <section>.<setting>
        key = part.setting.split(".", 2 if part.setting.startswith("methods.") else 1)[-1]
        return f"{part.base}: {key}"
    alone = all(other.base != part.base for other in parts if other is not part)
    return f"{part.base} and its variants" if alone else f"{part.base}: other settings"


def _draw_curve(axes: Axes, part: _Part, measure: str, span: tuple[float, float]) -> None:
    values = sorted(part.rows["value"].unique())
    colour = method_colour(part.base)
    percent = part.rows.assign(percent=100 * part.rows[measure]).groupby("value")["percent"]
    mean, spread = percent.mean(), percent.std(ddof=1)
    places = range(len(values))
    axes.plot(places, mean, color=colour, linewidth=1.3, zorder=3)
    if spread.notna().any():
        low, high = mean - spread, mean + spread
        axes.fill_between(places, low, high, color=colour, alpha=0.22, linewidth=0, zorder=2)
    for place, (_, points) in enumerate(percent):
        x = place + offsets(len(points), 0.24)
        axes.scatter(x, points, s=8, color="white", edgecolors=colour, linewidths=0.8, zorder=4)
    axes.set_xticks(places, [f"{value:g}" for value in values])
    own = part.rows.loc[part.rows["method"] == part.base, "value"]
    for label, value in zip(axes.get_xticklabels(), values, strict=True):
        label.set_fontweight("bold" if value in set(own) else "normal")
    axes.set_xlim(-0.4, len(values) - 0.6)
    axes.set_ylim(span)
    axes.locator_params(axis="y", nbins=4)


def _draw_names(
    axes: Axes, part: _Part, measure: str, span: tuple[float, float], methods: Sequence[str]
) -> None:
    names = list(dict.fromkeys(part.rows["method"]))
    for place, (method, rows) in enumerate(by_chain(part.rows, names)):
        points = 100 * rows[measure].to_numpy(dtype=float)
        colour = method_colour(method, methods)
        y = place + offsets(len(points), 0.36)
        axes.scatter(points, y, s=9, color="white", edgecolors=colour, linewidths=0.9, zorder=3)
        axes.plot([points.mean()] * 2, [place - 0.36, place + 0.36], color=colour, linewidth=2.0, zorder=4)
        if method == part.base:
            axes.axvline(points.mean(), color=MUTED, **_OWN_MEAN, zorder=1.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(span)
    rows_by_name(axes, names, 4)
    axes.set_xlabel("%", labelpad=1)


def _key(parts: Sequence[_Part]) -> list[Line2D | Patch]:
    point = Line2D([], [], color=MUTED, marker="o", markerfacecolor="white", markersize=4, linewidth=0)
    point.set_label("one chain (order, seed)")
    handles: list[Line2D | Patch] = [point]
    if any(part.setting for part in parts):
        bold = Line2D([], [], color=INK, linewidth=0, marker="$\\mathbf{1}$", markersize=5)
        bold.set(markeredgewidth=0)
        bold.set_label("bold: value of the method itself")
        handles += [
            Line2D([], [], color=MUTED, linewidth=1.3, label="line: mean"),
            Patch(color=MUTED, alpha=0.22, linewidth=0, label="band: ± 1 s.d."),
            bold,
        ]
    if any(not part.setting for part in parts):
        bar = {"marker": "|", "markersize": 8, "markeredgewidth": 2, "linewidth": 0}
        handles += [
            Line2D([], [], color=MUTED, **bar, label="bar: mean"),
            Line2D(
                [], [], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), label="mean of the method varied"
            ),
        ]
    return handles
