"""Interactive charts of accuracy: what they show when pointed at is computed in ``stats``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import pandas as pd

from anamnesis.figures.style import CONDITION_COLOURS, FAINT, INK, method_colour, readable
from anamnesis.report import chart_style
from anamnesis.report.chart_style import finished, interval_text, method_colours, number, tooltips
from anamnesis.report.sentences import asked, counted, percent

CONDITIONS = {
    "none": "zero-shot, nothing added",
    "add": "instruction vector added",
    "few-shot": "few-shot, nothing removed",
    "remove": "instruction vector removed",
    "random": "random vector of equal norm",
}
LEVELS = {
    "hp": "HP: held-out sets, zero-shot",
    "ip": "IP: held-out sets, few-shot",
    "knowledge": "Held-out sets, as knowledge",
    "op": "OP: training tasks, zero-shot",
}
BASES = {"zero-shot": "zero-shot prompts, vector added", "few-shot": "few-shot prompts, vector removed"}


def summary_chart(means: pd.DataFrame, description: str) -> dict | None:
    """Accuracy at the end: a panel per measure, a bar per method with its interval; dashed: before training.

    ``means``: ``chart_tables.level_means``.
    """
    methods = list(means["method"].unique())
    rows = [
        {
            "measure": LEVELS[row.measure],
            "line": row.method,
            "start": number(100 * row.before),
            "before": percent(row.before),
            "n": counted(row.chains, "chain"),
            **_values(row.mean, row.low, row.high),
        }
        for row in means.itertuples()
    ]
    place = alt.X("line:N", title=None, sort=methods, axis=alt.Axis(labels=False, ticks=False))
    base = alt.Chart().encode(x=place)
    shown = {"value": "At the end", "interval": "Interval", "before": "Before training", "n": "n"}
    tooltip = tooltips(line="Method", **shown)
    accuracy = alt.Y("y:Q", title="Accuracy (%)", scale=alt.Scale(domain=[0, 100]))
    layers = alt.layer(
        base.mark_bar().encode(y=accuracy, color=method_colours("Method", methods), tooltip=tooltip),
        base.mark_rule(color=INK, strokeWidth=1.5, aria=False).encode(y="low:Q", y2="high:Q"),
        alt.Chart().mark_rule(color=INK, strokeDash=[4, 3], aria=False).encode(y="mean(start):Q"),
        data=alt.InlineData(values=rows),
        height=190,
    )
    chart = layers.facet(
        facet=alt.Facet("measure:N", title=None, sort=list(LEVELS.values())),
        columns=4,
        bounds="flush",
        spacing={"row": 32, "column": 24},
    )
    note = "Dashed: the model before training. Lines on bars are intervals of the mean."
    return finished(chart, description, note) if 0 < len(rows) <= chart_style.MOST_ROWS else None


def accuracy_chart(means: pd.DataFrame, description: str) -> dict | None:
    """Accuracy against stage: a panel per set, a line per method. ``means``: ``chart_tables.curve_means``."""
    methods = list(means["method"].unique())
    rows = [
        {
            "set": readable(row.set),
            "line": row.method,
            "x": int(row.stage),
            "trained": row.trained_task == row.set,
            "order": f"order {row.order}",
            "asked": asked(row.form, row.shots),
            "after": readable(row.trained_task) if isinstance(row.trained_task, str) else "no training",
            "n": f"{counted(row.chains, 'chain')}, {counted(row.questions, 'question')} each",
            **_values(row.mean, row.low, row.high),
        }
        for row in means.itertuples()
    ]
    colours = {name: method_colour(name, methods) for name in methods}
    return _panels(rows, description, colours, "Stage", "Method", ("asked", "order"))


def intervention_chart(table: pd.DataFrame, description: str) -> dict | None:
    """Accuracy against the layer of an intervention, a panel per set. ``table``:
    ``chart_tables.intervention_intervals``.
    """
    rows = [
        {
            "set": readable(row.set),
            "line": CONDITIONS[row.condition],
            "x": int(row.layer),
            "trained": False,
            "asked": BASES[row.base],
            "after": f"layer {row.layer}",
            "n": counted(row.n, "question"),
            **_values(row.accuracy, row.low, row.high),
        }
        for row in table.itertuples()
    ]
    colours = {name: CONDITION_COLOURS[key] for key, name in CONDITIONS.items()}
    return _panels(rows, description, colours, "Layer", "Condition", ("asked",))


def _panels(
    rows: Sequence[Mapping],
    description: str,
    colours: Mapping[str, str],
    x: str,
    line: str,
    picks: Sequence[str],
) -> dict | None:
    """Small panels, one per set, of lines with bands; ``picks``: columns of which one value is shown.

    None where there is more than a page should hold.
    """
    if len(rows) > chart_style.MOST_ROWS or not rows:
        return None
    sets = list(dict.fromkeys(row["set"] for row in rows))
    chart = (
        _lines(rows, colours, x, line)
        .facet(
            facet=alt.Facet("set:N", title=None, sort=sets),
            columns=3,
            bounds="flush",
            spacing={"row": 70, "column": 24},
        )
        .resolve_axis(x="independent")
    )
    for param in _picks(rows, picks):
        chart = chart.add_params(param).transform_filter(
            f"datum.{param.name.removeprefix('pick_')} === {param.name}"
        )
    return finished(chart, description, "Bands in this chart are intervals of the mean.")


def _picks(rows: Sequence[Mapping], names: Sequence[str]) -> Iterator[alt.Parameter]:
    """A menu for each column that has several values."""
    for name in names:
        values = list(dict.fromkeys(row[name] for row in rows))
        label = {"asked": "Asked as ", "order": "Tasks in "}[name]
        if len(values) > 1:
            bind = alt.binding_select(options=values, name=label)
            yield alt.param(name=f"pick_{name}", value=values[0], bind=bind)


def _lines(rows: Sequence[Mapping], colours: Mapping[str, str], x: str, line: str) -> alt.LayerChart:
    """One panel: lines with bands and points, and a grey mark where a set's own task was trained."""
    present = [name for name in colours if any(row["line"] == name for row in rows)]
    axis = alt.Axis(tickMinStep=1, format="d", labelOverlap="greedy", labelSeparation=4, grid=False)
    places = [row["x"] for row in rows]
    scale = alt.Scale(domain=[min(places), max(places)], padding=6)
    place = alt.X("x:Q", title=x, axis=axis, scale=scale)
    base = alt.Chart().encode(x=place, color=method_colours(line, present, colours))
    y = {"scale": alt.Scale(domain=[0, 100]), "axis": alt.Axis(values=[0, 25, 50, 75, 100])}
    trained = alt.Chart().mark_rule(color=FAINT, strokeWidth=6, aria=False).encode(x=place)
    tooltip = tooltips(line=line, set="Set", after="After", value="Accuracy", interval="Interval", n="n")
    return alt.layer(
        trained.transform_filter("datum.trained"),
        base.mark_area(opacity=0.13, aria=False).encode(
            y=alt.Y("low:Q", title="Accuracy (%)", **y), y2="high:Q"
        ),
        base.mark_line().encode(y="y:Q"),
        base.mark_circle(size=45, opacity=1).encode(y="y:Q", tooltip=tooltip),
        data=alt.InlineData(values=list(rows)),
        height=130,
    )


def _values(mean: float, low: float, high: float) -> dict[str, object]:
    """Accuracy in per cent for the axis, and as text."""
    ends = [number(100 * max(0.0, low)), number(100 * min(1.0, high))]
    if math.isnan(low) or math.isnan(high):
        ends = [number(100 * mean)] * 2  # a band without width
    interval = interval_text(100 * low, 100 * high, "{:.1f}")
    return {
        "y": number(100 * mean),
        "low": ends[0],
        "high": ends[1],
        "value": percent(mean),
        "interval": interval,
    }
