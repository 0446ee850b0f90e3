"""Interactive charts as Vega-Lite specifications: what they show when pointed at is computed in ``stats``.

Widths and the number of columns are set in the browser (``templates/charts.js``), by the room that there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from anamnesis.figures.style import CONDITION_COLOURS, FAINT, INK, MUTED, method_colour, readable
from anamnesis.report.sentences import counted, percent

MOST_ROWS = 12_000
"""Of one chart, about 2 MB. What is more stays in the picture and in its CSV."""

CONDITIONS = {
    "none": "zero-shot, nothing added",
    "add": "instruction vector added",
    "few-shot": "few-shot, nothing removed",
    "remove": "instruction vector removed",
    "random": "random vector of equal norm",
}
BASES = {"zero-shot": "zero-shot prompts, vector added", "few-shot": "few-shot prompts, vector removed"}
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif'
_CONFIG = {
    "font": _FONT,
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelColor": INK,
             "titleColor": INK, "gridColor": "#e6e6e6", "domainColor": MUTED, "tickColor": MUTED},
    "axisX": {"grid": False},
    "header": {"labelFontSize": 12, "labelFontWeight": "bold", "labelColor": INK, "labelAnchor": "start"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelColor": INK, "titleColor": INK,
               "labelLimit": 320, "symbolOpacity": 1, "symbolType": "square"},
    "title": {"fontSize": 12, "subtitleFontSize": 11, "anchor": "start", "color": INK,
              "subtitleColor": MUTED},
    "view": {"stroke": None},
}  # fmt: skip


def asked(form: str, shots: int) -> str:
    """How a question was put, in words."""
    return f"{form}, {shots}-shot" if shots else f"{form}, zero-shot"


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


def head_chart(
    heads: pd.DataFrame, details: pd.DataFrame, by: str, description: str, unit: str = "probability"
) -> dict | None:
    """The map of causal effects; below it the effect of the head that is clicked or chosen, of each ``by``.

    ``heads``: ``layer, head, effect, low, high, rank, selected, n_prompts``; ``details``: ``layer, head,
    effect, low, high, n`` and the column ``by``: "task" gives bars, "stage" a line for each ``method``.
    """
    named = heads.assign(name=_names(heads)).sort_values("rank")
    fits = max(1, MOST_ROWS // max(1, len(details) // len(heads)))
    shown = details.assign(name=_names(details))
    shown = shown[shown["name"].isin(named["name"].head(fits))]
    if len(heads) > MOST_ROWS:
        return None
    chosen = alt.selection_point(
        name="chosen",
        fields=["name"],
        bind={"name": alt.binding_select(options=list(named["name"].head(fits)), name="Head (layer.head) ")},
        on="click",
        value=named["name"].iloc[0],
        empty=False,
    )
    below = _task_bars(shown, unit) if by == "task" else _stage_lines(shown, unit)
    chart = alt.vconcat(
        _head_map(named, chosen, unit).add_params(chosen),
        below.transform_filter(chosen).properties(name="effects"),
    )
    return _finished(chart, description, "Click a head, or choose one, to see its effect below.")


def _head_map(heads: pd.DataFrame, chosen: alt.Parameter, unit: str) -> alt.Chart:
    limit = float(heads["effect"].abs().max()) or 1.0
    rows = [
        {
            "name": row.name,
            "layer": int(row.layer),
            "head": int(row.head),
            "effect": _number(row.effect),
            "value": f"{row.effect:+.3f}",
            "interval": _interval(row.low, row.high, "{:+.3f}"),
            "n": counted(row.n_prompts, "prompt"),
            "rank": int(row.rank),
            "selected": bool(row.selected),
            "vector": "part of it" if row.selected else "no part of it",
        }
        for row in heads.itertuples()
    ]
    colour = alt.Color(
        "effect:Q",
        title="Effect",
        scale=alt.Scale(scheme="redblue", reverse=True, domain=[-limit, limit]),
        legend=alt.Legend(orient="top", gradientThickness=8),
    )
    axis = alt.Axis(labelOverlap="greedy", labelSeparation=4, labelAngle=0, grid=False)
    width = (
        alt.when(chosen)
        .then(alt.value(3))
        .when("datum.selected")
        .then(alt.value(1.5))
        .otherwise(alt.value(0))
    )
    return (
        alt.Chart(alt.InlineData(values=rows), name="map", height=max(90, 14 * heads["head"].nunique()))
        .mark_rect(stroke=INK, cursor="pointer")
        .encode(
            x=alt.X("layer:O", title="Layer", axis=axis),
            y=alt.Y("head:O", title="Head", axis=axis),
            color=colour,
            strokeWidth=width,
            tooltip=_tooltip(name="Head", value=f"Effect ({unit.replace('_', '-')})", interval="Interval",
                             n="n", rank="Rank", vector="Instruction vector"),
        )
    )  # fmt: skip


def _task_bars(details: pd.DataFrame, unit: str) -> alt.LayerChart:
    rows = _detail_rows(details, "task")
    place = alt.Y("of:N", title=None, sort=[readable(task) for task in details["task"].unique()])
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=place, tooltip=_detail_tooltip("Task"))
    title = _effect_title("Effect of the chosen head in each task", unit)
    bars = base.mark_bar(height=12).encode(
        x=alt.X("effect:Q", title=None, scale=_detail_scale(details)),
        color=alt.condition("datum.effect < 0", alt.value("#2166ac"), alt.value("#b2182b")),
    )
    lines = base.mark_rule(color=INK, aria=False).encode(x="low:Q", x2="high:Q")
    return alt.layer(bars, lines, title=title, height=alt.Step(20))


def _stage_lines(details: pd.DataFrame, unit: str) -> alt.LayerChart:
    rows, methods = _detail_rows(details, "stage"), list(details["method"].unique())
    colour = alt.Color("method:N", title="Method", sort=methods, scale=alt.Scale(
        domain=methods, range=[method_colour(name, methods) for name in methods]),
        legend=alt.Legend(orient="bottom"))  # fmt: skip
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("of:O", title="Stage", axis=alt.Axis(labelAngle=0)), color=colour
    )
    lines = base.mark_line().encode(y=alt.Y("effect:Q", title="Effect", scale=_detail_scale(details)))
    points = base.mark_circle(size=60, opacity=1).encode(
        y="effect:Q", tooltip=[alt.Tooltip("method:N", title="Method"), *_detail_tooltip("Stage")]
    )
    title = _effect_title("Effect of the chosen head after each stage", unit)
    return alt.layer(lines, points, title=title, height=150)


def _effect_title(text: str, unit: str) -> alt.Title:
    return alt.Title(text, subtitle=f"change of the {unit.replace('_', '-')} of the right answer")


def _detail_scale(details: pd.DataFrame) -> alt.Scale:
    ends = pd.concat([details["effect"], details["low"], details["high"]])
    return alt.Scale(domain=[_number(min(0.0, ends.min())), _number(max(0.0, ends.max()))])


def _detail_rows(details: pd.DataFrame, by: str) -> list[dict]:
    return [
        {
            "name": row["name"],
            "of": readable(row[by]) if by == "task" else int(row[by]),
            "method": row.get("method"),
            "effect": _number(row["effect"]),
            "low": _number(row["low"]),
            "high": _number(row["high"]),
            "value": f"{row['effect']:+.3f}",
            "interval": _interval(row["low"], row["high"], "{:+.3f}"),
            "n": counted(row["n"], "prompt"),
        }
        for row in details.to_dict("records")
    ]


def _detail_tooltip(of: str) -> list[alt.Tooltip]:
    return _tooltip(of=of, value="Effect", interval="Interval", n="n")


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
    if len(rows) > MOST_ROWS or not rows:
        return None
    params = []
    for name in picks:
        values = list(dict.fromkeys(row[name] for row in rows))
        label = {"asked": "Asked as ", "order": "Tasks in "}[name]
        if len(values) > 1:
            bind = alt.binding_select(options=values, name=label)
            params.append(alt.param(name=f"pick_{name}", value=values[0], bind=bind))
    present = [name for name in colours if any(row["line"] == name for row in rows)]
    colour = alt.Color(
        "line:N",
        title=line,
        sort=present,
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=present, range=[colours[name] for name in present]),
    )
    axis = alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=4, grid=False)
    base = alt.Chart().encode(x=alt.X("x:O", title=x, axis=axis), color=colour)
    y = {"scale": alt.Scale(domain=[0, 100]), "axis": alt.Axis(values=[0, 25, 50, 75, 100])}
    trained = alt.Chart().mark_rule(color=FAINT, strokeWidth=6, aria=False).encode(x="x:O")
    tooltip = _tooltip(line=line, set="Set", after="After", value="Accuracy", interval="Interval", n="n")
    layers = alt.layer(
        trained.transform_filter("datum.trained"),
        base.mark_area(opacity=0.13, aria=False).encode(
            y=alt.Y("low:Q", title="Accuracy (%)", **y), y2="high:Q"
        ),
        base.mark_line().encode(y="y:Q"),
        base.mark_circle(size=45, opacity=1).encode(y="y:Q", tooltip=tooltip),
        data=alt.InlineData(values=list(rows)),
        height=130,
    )
    sets = list(dict.fromkeys(row["set"] for row in rows))
    chart = layers.facet(facet=alt.Facet("set:N", title=None, sort=sets), columns=3).resolve_axis(
        x="independent"
    )
    for param in params:
        chart = chart.add_params(param).transform_filter(
            f"datum.{param.name.removeprefix('pick_')} === {param.name}"
        )
    return _finished(chart, description, "Bands in this chart are intervals of the mean.")


def _finished(chart: alt.TopLevelMixin, description: str, note: str) -> dict:
    """``note``: shown below the chart."""
    note += " Point at a value to read it with its interval and n."
    whole = chart.properties(description=description, usermeta={"note": note}).configure(**_CONFIG)
    return whole.to_dict()


def _values(mean: float, low: float, high: float) -> dict[str, object]:
    """Accuracy in per cent for the axis, and as text."""
    ends = [_number(100 * max(0.0, low)), _number(100 * min(1.0, high))]
    if math.isnan(low) or math.isnan(high):
        ends = [_number(100 * mean)] * 2  # a band without width
    interval = _interval(100 * low, 100 * high, "{:.1f}")
    return {
        "y": _number(100 * mean),
        "low": ends[0],
        "high": ends[1],
        "value": percent(mean),
        "interval": interval,
    }


def _interval(low: float, high: float, form: str) -> str:
    if math.isnan(low) or math.isnan(high):
        return "none"
    return f"{form.format(low)} to {form.format(high)}".replace("-", "−")


def _names(frame: pd.DataFrame) -> list[str]:
    return [f"{int(layer)}.{int(head)}" for layer, head in zip(frame["layer"], frame["head"], strict=True)]


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else round(float(value), 5)


def _tooltip(**titles: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]
