"""Accuracy after each stage of a chain, one panel per set (after figure 3 of Jiang et al. 2024)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from anamnesis.core.errors import UserError, unknown
from anamnesis.evaluation.harness import HARNESS
from anamnesis.figures.panels import DASHED, grid, method_key, per_cent, stages
from anamnesis.figures.style import FAINT, INK, MUTED, Drawn, method_colour, new_figure, readable, styled
from anamnesis.stats.forgetting import few_shots, require_columns
from anamnesis.stats.held_out import marks as marks_of

_ROW, _HEADING, _NAME_LINE = 1.32, 0.50, 0.135  # heights in inches
_TITLE_LETTERS = 24  # as many of the usual size fit above the narrowest panel
_NAMES_WIDTH = 140  # characters of the small print on one line of the page
_TOGETHER = 8  # methods that can be told apart in one panel
_KEY_COLUMNS = 4  # their names beside a title
_TITLES = {
    "train_task": "Training tasks",
    "held_out": "Held-out sets",
    HARNESS: "Tasks of lm-evaluation-harness",
}


@dataclass(frozen=True, slots=True)
class _Line:
    form: str
    shots: int | None  # None: as each set has
    label: str
    style: object
    marker: str


@dataclass(frozen=True, slots=True)
class _Section:
    """Panels below one title: ``names`` are drawn in their colours, all other methods faintly behind them."""

    title: str
    data: pd.DataFrame
    names: Sequence[str]  # some may be missing in the data; colours go by the place among all
    heading: float  # inches

    @property
    def height(self) -> float:
        return self.heading + _ROW * math.ceil(self.data["set"].nunique() / _columns(self.data))


def accuracy_curves(
    frame: pd.DataFrame,
    order: int | None = None,
    methods: Sequence[str] | None = None,
    marks: Mapping[str, str] | None = None,
) -> Figure:
    """One small panel per set: accuracy (per cent) against stage, by method (colour) and form (line style).

    Parameters
    ----------
    frame : ``method, order, seed`` and the columns of the accuracy table
        (``stats.summary.curves_frame``).
    order : which task order to draw (default: all, below each other; tasks trained at different stages are
        not averaged).
    methods : which methods, in this order (default: all, in order of appearance).
    marks : held-out set -> "floor" or "chance", where it is there before training
        (``stats.held_out.marks``); it stands behind the set's name.

    Lines are means over seeds, bands ± one s.d. (ddof=1; none for one seed). More methods than can be told
    apart are drawn some at a time, the others faintly behind them. Raises UserError for an empty frame, a
    missing column, or an unknown order or method.
    """
    chosen = _choose(frame, order, methods)
    chosen = chosen.replace({"set": {name: f"{name} (at {mark})" for name, mark in (marks or {}).items()}})
    names = list(methods) if methods is not None else list(chosen["method"].unique())
    lines, sections, key = _lines(chosen), _sections(chosen, names), _key_text(chosen)
    with styled():
        below = 0.58 + _NAME_LINE * len(key)
        heights = [*(section.height for section in sections), below]
        figure = new_figure(sum(heights))
        parts = figure.subfigures(len(heights), 1, height_ratios=heights)
        for section, part in zip(sections, parts, strict=False):
            _draw_section(part, section, lines)
            if len(names) > _TOGETHER:
                _name_methods(part, section)
        _draw_key(parts[-1], chosen, names if len(names) <= _TOGETHER else (), lines, key)
    return figure


def draw(frame: pd.DataFrame, held_out: pd.DataFrame) -> Drawn:
    """From the accuracy of all chains and the table of held-out sets."""
    drawn = frame.drop(columns="empty")
    return Drawn(accuracy_curves(frame, marks=marks_of(held_out)), drawn)


def _sections(frame: pd.DataFrame, names: Sequence[str]) -> list[_Section]:
    orders = sorted(int(o) for o in frame["order"].unique())
    sections = []
    for order in orders:
        here = frame[frame["order"] == order]
        for first in range(0, len(names), _TOGETHER):
            group = names[first : first + _TOGETHER]
            if not here["method"].isin(group).any():
                continue
            # the names of methods have rows of their own beside the title where they are not in the key
            rows = math.ceil(len(group) / _KEY_COLUMNS) if len(names) > _TOGETHER else 1
            for role, title in _TITLES.items():
                part = here[here["role"] == role]
                title = title if len(orders) == 1 else f"{title}, order {order}"
                if len(part):
                    sections.append(
                        _Section(title + "\n" * (rows - 1), part, group, _HEADING + _NAME_LINE * (rows - 1))
                    )
    return sections


def _columns(data: pd.DataFrame) -> int:
    """Four panels in a row, or three where that leaves fewer empty places."""
    count = data["set"].nunique()
    return 3 if -count % 3 < -count % 4 and count <= 9 else 4


def _choose(frame: pd.DataFrame, order: int | None, methods: Sequence[str] | None) -> pd.DataFrame:
    columns = ["method", "order", "seed", "stage", "set", "role", "form", "shots", "value"]
    require_columns(frame, columns, "curves table")
    if frame.empty:
        raise UserError("the accuracy table is empty: there is nothing to draw")
    if order is not None and order not in set(frame["order"]):
        raise unknown("order", order, sorted(frame["order"].unique()))
    for method in methods or ():
        if method not in set(frame["method"]):
            raise unknown("method", method, frame["method"].unique())
    keep = frame["method"].isin(frame["method"] if methods is None else methods)
    return frame[keep & (frame["order"] == order)] if order is not None else frame[keep]


def _lines(frame: pd.DataFrame) -> list[_Line]:
    lines = [_Line("instruction", 0, "instruction, zero-shot", "-", "o")]
    if ((frame["form"] == "instruction") & (frame["shots"] > 0)).any():
        shots = few_shots(frame)
        lines.append(_Line("instruction", shots, f"instruction, {shots}-shot", DASHED, "s"))
    knowledge = frame.loc[frame["form"] == "knowledge", "shots"]
    if len(knowledge):
        shots = int(knowledge.min())
        kind = "zero-shot" if shots == 0 else f"{shots}-shot"
        lines.append(_Line("knowledge", shots, f"knowledge, {kind}", (0, (0.8, 1.1)), "^"))
    if (frame["form"] == HARNESS).any():
        lines.append(_Line(HARNESS, None, "lm-evaluation-harness", "-.", "D"))
    return lines


def _key_text(frame: pd.DataFrame) -> list[str]:
    """What the stage numbers on the axes stand for, order by order, and what the bands are; wrapped to the
    page.
    """
    orders = sorted(int(o) for o in frame["order"].unique())
    lines = []
    for order in orders:
        lines += _stage_names(
            frame[frame["order"] == order], "Stages" if len(orders) == 1 else f"Stages of order {order}"
        )
    return [*lines, _seeds_note(frame)]


def _stage_names(frame: pd.DataFrame, label: str) -> list[str]:
    stages = frame.drop_duplicates("stage").sort_values("stage")
    named = [
        f"{row.stage}\u00a0"
        + ("before training" if row.stage == 0 else readable(row.trained_task)).replace(" ", "\u00a0")
        for row in stages.itertuples()
    ]
    # only plain spaces may break a line, so that a number stays with its name
    return textwrap.TextWrapper(_NAMES_WIDTH, break_long_words=False, break_on_hyphens=False).wrap(
        f"{label}: " + "; ".join(named)
    )


def _draw_section(part: SubFigure, section: _Section, lines: Sequence[_Line]) -> None:
    data = section.data
    sets = sorted(
        data["set"].unique(), key=lambda name: _trained_at(data, name)
    )  # stable: held-out sets keep their order
    columns = _columns(data)
    part.suptitle(section.title, x=0.008, ha="left", fontweight="bold", fontsize=8.5)
    panels = grid(part, len(sets), columns, sharey=True)
    for place, (name, axes) in enumerate(zip(sets, panels.flat, strict=False)):
        _draw_panel(axes, data[data["set"] == name], section.names, lines)
        if place % columns == 0:
            axes.set_ylabel("Accuracy (%)")
        if place // columns == (len(sets) - 1) // columns:
            axes.set_xlabel("Stage", labelpad=1)


def _trained_at(data: pd.DataFrame, name: str) -> float:
    stages = data.loc[data["trained_task"] == name, "stage"]
    return float(stages.min()) if len(stages) else math.inf


def _draw_panel(axes: Axes, data: pd.DataFrame, names: Sequence[str], lines: Sequence[_Line]) -> None:
    trained = _trained_at(data, data["set"].iloc[0])
    title = readable(data["set"].iloc[0])
    # a long name gets smaller letters, so that it ends before the next panel's begins
    size = max(5.0, min(7.5, 7.5 * _TITLE_LETTERS / len(title)))
    axes.set_title(title, fontsize=size, pad=8.5 if math.isfinite(trained) else 6)
    per_cent(axes)
    stages(axes, data)
    if math.isfinite(trained):
        axes.axvline(trained, color=MUTED, linewidth=0.7, zorder=0.6)
        above = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot([trained], [1.015], marker="v", markersize=3.6, color=MUTED, **above)
    for line in lines:
        drawn = data[(data["form"] == line.form) & ((line.shots is None) | (data["shots"] == line.shots))]
        means = drawn.groupby(["method", "stage"])["value"].mean()
        for method in drawn["method"].unique():
            if method in names:
                _draw_line(axes, drawn[drawn["method"] == method], method_colour(method, names), line)
            else:
                values = 100 * means[method]
                axes.plot(values.index, values, color=FAINT, linestyle=line.style, linewidth=0.6, zorder=1)


def _draw_line(axes: Axes, data: pd.DataFrame, colour: str, line: _Line) -> None:
    values = data.groupby("stage")["value"].agg(["mean", "std"]) * 100
    axes.plot(
        values.index, values["mean"], color=colour, linestyle=line.style, marker=line.marker, markersize=2.4,
        linewidth=1.2, clip_on=False,
    )  # fmt: skip
    if values["std"].notna().any():
        low, high = ((values["mean"] + sign * values["std"]).clip(0, 100) for sign in (-1, 1))
        axes.fill_between(values.index, low, high, color=colour, alpha=0.10, linewidth=0)


def _name_methods(part: SubFigure, section: _Section) -> None:
    """The methods of a section, beside its title."""
    here = set(section.data["method"])
    shown = [name for name in section.names if name in here]
    faint = [Line2D([], [], color=FAINT, linewidth=3, label="others")] if here - set(shown) else []
    part.legend(
        handles=[*method_key(shown, section.names), *faint],
        loc="upper right", bbox_to_anchor=(0.995, 1.0), ncols=_KEY_COLUMNS + bool(faint), fontsize=7,
        handlelength=1.6, borderpad=0, borderaxespad=0.1, columnspacing=1.2,
    )  # fmt: skip


def _draw_key(
    part: SubFigure, frame, names: Sequence[str], lines: Sequence[_Line], key: Sequence[str]
) -> None:
    height = 0.58 + _NAME_LINE * len(key)
    thin, trained = {"color": INK, "markersize": 3, "linewidth": 1.2}, "trained at this stage"
    forms = [Line2D([], [], linestyle=f.style, marker=f.marker, label=f.label, **thin) for f in lines]
    if (frame["role"] == "train_task").any():
        forms.append(Line2D([], [], color=MUTED, linewidth=0.7, marker="v", markersize=4, label=trained))
    for handles, drop, columns in ((method_key(names), 0.06, 8), (forms, 0.26, 4)):
        part.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.055, 1 - drop / height), ncols=columns,
            handlelength=2.8, borderpad=0, borderaxespad=0, columnspacing=1.8,
        )  # fmt: skip
    part.text(0.055, 1 - 0.50 / height, "\n".join(key), fontsize=7, color=MUTED, va="top", linespacing=1.3)


def _seeds_note(frame: pd.DataFrame) -> str:
    counts = frame.groupby("method")["seed"].nunique()
    if counts.max() == 1:
        return "One seed: no spread is shown."
    seeds = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    return f"Lines: mean of n = {seeds} seeds. Bands: ± 1 s.d."
