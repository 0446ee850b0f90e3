"""Accuracy after each stage of a chain, one panel per set (after figure 3 of Jiang et al. 2024)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from anamnesis.errors import UserError, unknown
from anamnesis.evaluation.forgetting import few_shots, require_columns
from anamnesis.figures.style import MUTED, WIDTH, method_colour, readable, styled

_COLUMNS = 4
_NAMED_STAGES = 8  # with more stages their names no longer fit below the panels; numbers stand there instead
_SECTIONS = (("train_task", "Training tasks"), ("held_out", "Held-out sets"))


@dataclass(frozen=True, slots=True)
class _Line:
    form: str
    shots: int
    label: str
    style: object
    marker: str


def accuracy_curves(frame: pd.DataFrame, order: int | None = None, methods: Sequence[str] | None = None) -> Figure:
    """One small panel per set: accuracy (per cent) against stage, by method (colour) and form (line style).

    Parameters
    ----------
    frame : ``method, order, seed`` and the columns of the accuracy table (``evaluation.summary.curves_frame``).
    order : which task order to draw; may be left out when the frame has only one.
    methods : which methods, in this order (default: all, in order of appearance).

    Lines are means over seeds, bands ± one s.d. (ddof=1; none for one seed). Raises UserError for an empty frame, an
    unknown order or method, or several orders and none chosen.
    """
    chosen = _choose(frame, order, methods)
    names = list(methods) if methods is not None else list(chosen["method"].unique())
    lines = _lines(chosen)
    sections = [(title, chosen[chosen["role"] == role]) for role, title in _SECTIONS]
    sections = [(title, part) for title, part in sections if len(part)]
    with styled():
        rows = [math.ceil(part["set"].nunique() / _COLUMNS) for _, part in sections]
        ticks = _stage_labels(chosen)
        names_height = 0.075 * max(len(line) for label in ticks.values() for line in label.split("\n"))
        heights = [0.45 + 1.2 * r + names_height for r in rows]
        figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.75), layout="constrained")
        parts = figure.subfigures(len(sections) + 1, 1, height_ratios=[*heights, 0.75])
        for (title, data), part in zip(sections, parts, strict=False):
            _draw_section(part, title, data, names, lines, ticks)
        _draw_key(parts[-1], chosen, names, lines)
    return figure


def _choose(frame: pd.DataFrame, order: int | None, methods: Sequence[str] | None) -> pd.DataFrame:
    require_columns(frame, ["method", "order", "seed", "stage", "set", "role", "form", "shots", "value"], "curves table")
    if frame.empty:
        raise UserError("the accuracy table is empty: there is nothing to draw")
    orders = sorted(int(o) for o in frame["order"].unique())
    if order is None and len(orders) > 1:
        raise UserError(f"the accuracy table holds {len(orders)} task orders: draw one at a time (allowed: {orders})")
    if order is not None and order not in orders:
        raise unknown("order", order, orders)
    for method in methods or ():
        if method not in set(frame["method"]):
            raise unknown("method", method, frame["method"].unique())
    keep = frame["order"] == (orders[0] if order is None else order)
    return frame[keep & frame["method"].isin(methods)] if methods is not None else frame[keep]


def _lines(frame: pd.DataFrame) -> list[_Line]:
    lines = [_Line("instruction", 0, "instruction, zero-shot", "-", "o")]
    if ((frame["form"] == "instruction") & (frame["shots"] > 0)).any():
        shots = few_shots(frame)
        lines.append(_Line("instruction", shots, f"instruction, {shots}-shot", (0, (3.2, 1.4)), "s"))
    knowledge = frame.loc[frame["form"] == "knowledge", "shots"]
    if len(knowledge):
        shots = int(knowledge.min())
        kind = "zero-shot" if shots == 0 else f"{shots}-shot"
        lines.append(_Line("knowledge", shots, f"knowledge, {kind}", (0, (0.8, 1.1)), "^"))
    return lines


def _stage_labels(frame: pd.DataFrame) -> dict[int, str]:
    stages = frame.drop_duplicates("stage").sort_values("stage")
    if len(stages) > _NAMED_STAGES:
        return {int(s): str(int(s)) for s in stages["stage"]}
    return {
        int(row.stage): "before" if row.stage == 0 else "\n".join(textwrap.wrap(readable(row.trained_task), 15)[:2])
        for row in stages.itertuples()
    }


def _draw_section(part: SubFigure, title, data, names, lines, ticks) -> None:
    sets = list(data["set"].unique())
    if title == _SECTIONS[0][1]:
        sets = sorted(sets, key=lambda name: _trained_at(data, name))
    rows = math.ceil(len(sets) / _COLUMNS)
    part.suptitle(title, x=0.008, ha="left", fontweight="bold", fontsize=8.5)
    panels = part.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= len(sets):
            axes.set_visible(False)
            continue
        _draw_panel(axes, data[data["set"] == sets[place]], names, lines)
        axes.set_xticks(list(ticks), list(ticks.values()), rotation=90 if max(map(len, ticks.values())) > 2 else 0,
                        fontsize=6.3, linespacing=0.9)  # fmt: skip
        axes.tick_params(labelbottom=place + _COLUMNS >= len(sets))
        if place % _COLUMNS == 0:
            axes.set_ylabel("Accuracy (%)")


def _trained_at(data: pd.DataFrame, name: str) -> float:
    stages = data.loc[data["trained_task"] == name, "stage"]
    return float(stages.min()) if len(stages) else math.inf


def _draw_panel(axes: Axes, data: pd.DataFrame, names: Sequence[str], lines: Sequence[_Line]) -> None:
    axes.set_title(readable(data["set"].iloc[0]), fontsize=7.5, pad=6)
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])
    stages = sorted(data["stage"].unique())
    axes.set_xlim(stages[0] - 0.25, stages[-1] + 0.25)
    trained = _trained_at(data, data["set"].iloc[0])
    if math.isfinite(trained):
        axes.axvline(trained, color=MUTED, linewidth=0.7, zorder=0.6)
        axes.plot([trained], [1.015], marker="v", markersize=4, color=MUTED, transform=axes.get_xaxis_transform(),
                  clip_on=False)  # fmt: skip
    for method in names:
        for line in lines:
            part = data[(data["method"] == method) & (data["form"] == line.form) & (data["shots"] == line.shots)]
            if len(part):
                _draw_line(axes, part, method_colour(method, names), line)


def _draw_line(axes: Axes, data: pd.DataFrame, colour: str, line: _Line) -> None:
    values = data.groupby("stage")["value"].agg(["mean", "std"]) * 100
    axes.plot(values.index, values["mean"], color=colour, linestyle=line.style, marker=line.marker, markersize=2.4,
              linewidth=1.2, clip_on=False)  # fmt: skip
    if values["std"].notna().any():
        low, high = (values["mean"] - values["std"]).clip(0, 100), (values["mean"] + values["std"]).clip(0, 100)
        axes.fill_between(values.index, low, high, color=colour, alpha=0.10, linewidth=0)


def _draw_key(part: SubFigure, frame: pd.DataFrame, names: Sequence[str], lines: Sequence[_Line]) -> None:
    methods = [Line2D([], [], color=method_colour(m, names), linewidth=3, label=m) for m in names]
    forms = [
        Line2D([], [], color="#222222", linestyle=f.style, marker=f.marker, markersize=3, linewidth=1.2, label=f.label)
        for f in lines
    ]
    if (frame["role"] == "train_task").any():
        forms.append(Line2D([], [], color=MUTED, linewidth=0.7, marker="v", markersize=4, label="trained at this stage"))
    part.legend(handles=methods, loc="upper left", bbox_to_anchor=(0.05, 1.0), ncols=min(len(methods), 6), borderpad=0)
    part.legend(handles=forms, loc="upper left", bbox_to_anchor=(0.05, 0.70), ncols=4, handlelength=2.6, borderpad=0)
    part.text(0.062, 0.08, _seeds_note(frame), fontsize=7, color=MUTED, va="bottom")


def _seeds_note(frame: pd.DataFrame) -> str:
    counts = frame.groupby("method")["seed"].nunique()
    if counts.max() == 1:
        return "One seed: no spread is shown."
    seeds = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    return f"Lines: mean of n = {seeds} seeds. Bands: ± 1 s.d."
