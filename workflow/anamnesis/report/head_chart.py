"""The interactive map of causal effects: a head that is clicked shows its effect of every task or stage."""

from __future__ import annotations

import altair as alt
import pandas as pd

from anamnesis.figures.style import INK, method_colour, readable
from anamnesis.report import chart_style
from anamnesis.report.chart_style import finished, interval_text, number, tooltips
from anamnesis.report.sentences import counted


def head_chart(
    heads: pd.DataFrame, details: pd.DataFrame, by: str, description: str, unit: str = "probability"
) -> dict | None:
    """The map of causal effects; below it the effect of the head that is clicked or chosen, of each ``by``.

    ``heads``: ``layer, head, effect, low, high, rank, selected, n_prompts``; ``details``: ``layer, head,
    effect, low, high, n`` and the column ``by``: "task" gives bars, "stage" a line for each ``method``.
    """
    named = heads.assign(name=_names(heads)).sort_values("rank")
    fits = max(1, chart_style.MOST_ROWS // max(1, len(details) // len(heads)))
    shown = details.assign(name=_names(details))
    shown = shown[shown["name"].isin(named["name"].head(fits))]
    if len(heads) > chart_style.MOST_ROWS:
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
    return finished(chart, description, "Click a head, or choose one, to see its effect below.")


def _head_map(heads: pd.DataFrame, chosen: alt.Parameter, unit: str) -> alt.Chart:
    limit = float(heads["effect"].abs().max()) or 1.0
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
        alt.Chart(alt.InlineData(values=_map_rows(heads)), name="map")
        .properties(height=max(90, 14 * heads["head"].nunique()))
        .mark_rect(stroke=INK, cursor="pointer")
        .encode(
            x=alt.X("layer:O", title="Layer", axis=axis),
            y=alt.Y("head:O", title="Head", axis=axis),
            color=colour,
            strokeWidth=width,
            tooltip=tooltips(name="Head", value=f"Effect ({unit.replace('_', '-')})", interval="Interval",
                             n="n", rank="Rank", vector="Instruction vector"),
        )
    )  # fmt: skip


def _map_rows(heads: pd.DataFrame) -> list[dict]:
    return [
        {
            "name": row.name,
            "layer": int(row.layer),
            "head": int(row.head),
            "effect": number(row.effect),
            "value": f"{row.effect:+.3f}",
            "interval": interval_text(row.low, row.high, "{:+.3f}"),
            "n": counted(row.n_prompts, "prompt"),
            "rank": int(row.rank),
            "selected": bool(row.selected),
            "vector": "part of it" if row.selected else "no part of it",
        }
        for row in heads.itertuples()
    ]


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
    return alt.Scale(domain=[number(min(0.0, ends.min())), number(max(0.0, ends.max()))])


def _detail_rows(details: pd.DataFrame, by: str) -> list[dict]:
    return [
        {
            "name": row["name"],
            "of": readable(row[by]) if by == "task" else int(row[by]),
            "method": row.get("method"),
            "effect": number(row["effect"]),
            "low": number(row["low"]),
            "high": number(row["high"]),
            "value": f"{row['effect']:+.3f}",
            "interval": interval_text(row["low"], row["high"], "{:+.3f}"),
            "n": counted(row["n"], "prompt"),
        }
        for row in details.to_dict("records")
    ]


def _detail_tooltip(of: str) -> list[alt.Tooltip]:
    return tooltips(of=of, value="Effect", interval="Interval", n="n")


def _names(frame: pd.DataFrame) -> list[str]:
    return [f"{int(layer)}.{int(head)}" for layer, head in zip(frame["layer"], frame["head"], strict=True)]
