"""What interactive charts have in common: their look, their numbers as text, their notes.

Specifications are those of Vega-Lite, made with Altair. Widths and the number of columns are set in the
browser (``templates/charts.js``), by the room that there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt

from anamnesis.figures.style import INK, MUTED, method_colour

MOST_ROWS = 12_000
"""Of one chart, about 2 MB. What is more stays in the picture and in its CSV."""

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


def finished(chart: alt.TopLevelMixin, description: str, note: str) -> dict:
    """``note``: shown below the chart."""
    note += " Point at a value to read it with its interval and n."
    whole = chart.properties(description=description, usermeta={"note": note}).configure(**_CONFIG)
    return whole.to_dict()


def interval_text(low: float, high: float, form: str) -> str:
    if math.isnan(low) or math.isnan(high):
        return "none"
    return f"{form.format(low)} to {form.format(high)}".replace("-", "−")


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else round(float(value), 5)


def tooltips(**titles: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]


def method_colours(title: str, names: Sequence[str], colours: Mapping[str, str] | None = None) -> alt.Color:
    colours = colours or {name: method_colour(name, names) for name in names}
    return alt.Color(
        "line:N",
        title=title,
        sort=list(names),
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(names), range=[colours[name] for name in names]),
    )
