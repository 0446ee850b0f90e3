"""What figures have in common: grids of panels, axes, heat maps of heads, keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from anamnesis.core.errors import UserError
from anamnesis.figures.style import INK, MUTED, method_colour, readable
from anamnesis.stats.forgetting import require_columns

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHED, DOTTED = (0, (3.2, 1.4)), (0, (1, 1.2))
UNITS = {"probability": "ΔP", "log_probability": "Δ log P"}
"""Of causal effects."""


def check(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise UserError when the frame lacks one of ``columns`` or has no row."""
    require_columns(frame, columns, what)
    if frame.empty:
        raise UserError(f"the {what} is empty: there is nothing to draw")


def grid(figure: Figure | SubFigure, count: int, columns: int, **options) -> np.ndarray:
    """``count`` panels (rows, columns) with further ``options`` of ``subplots``; places left over are
    hidden.
    """
    panels = figure.subplots(-(-count // columns), columns, squeeze=False, **options)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    return panels


def title(axes: Axes, name: str, room: int = 24) -> None:
    """The name of a set above its panel, in letters small enough for ``room`` of the usual size."""
    text = readable(name)
    axes.set_title(text, fontsize=max(5.0, min(7.5, 7.5 * room / len(text))))


def small_print(figure: Figure, text: str) -> None:
    """What the figure shows, at the foot of the page."""
    figure.supxlabel(text, fontsize=7, color=MUTED, x=0.01, ha="left")


def per_cent(axes: Axes) -> None:
    """An axis from 0 to 100."""
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])


def stages(axes: Axes, frame: pd.DataFrame) -> None:
    """The stages as ticks, at most ten of them."""
    found = sorted(int(stage) for stage in frame["stage"].unique())
    axes.set_xlim(found[0] - 0.25, found[-1] + 0.25)
    axes.set_xticks(found[:: -(-len(found) // 10)])


def rows_by_name(axes: Axes, names: Sequence[str], most: int | None = None) -> None:
    """A row for each name, the first on top, and values (at most so many ticks) to the right."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    if most:
        axes.locator_params(axis="x", nbins=most)


def mark_layer(axes: Axes, layer: int, size: float, colour: str) -> None:
    """A triangle below the axis."""
    axes.plot([layer], [-0.02], marker="^", markersize=size, color=colour, clip_on=False,
              transform=axes.get_xaxis_transform())  # fmt: skip


def head_map(
    axes: Axes, values: pd.DataFrame, limit: float, outlined: Iterable[tuple], linewidth: float, zorder=1.0
) -> AxesImage:
    """A heat map symmetric about zero, with some cells, (row, column) of ``values``, outlined."""
    image = axes.imshow(
        values.to_numpy(), cmap="RdBu_r", norm=Normalize(-limit, limit), aspect="auto", origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    rows, columns = list(values.index), list(values.columns)
    for row, column in outlined:
        corner = (columns.index(column) - 0.5, rows.index(row) - 0.5)
        outline = Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=linewidth, clip_on=False)
        outline.set_zorder(zorder)
        axes.add_patch(outline)
    axes.grid(False)
    return image


def numbered(axis: Axis, values: Sequence[int], most: int) -> None:
    """Ticks of a heat map: every first, second, fifth, ... number, so that there are at most ``most``."""
    step = next(s for s in (1, 2, 5, 10, 20, 50) if len(values) <= most * s or s == 50)
    axis.set_ticks(range(0, len(values), step), [str(int(v)) for v in values[::step]])


def method_key(methods: Sequence[str], among: Sequence[str] | None = None) -> list[Line2D]:
    """A thick line in each method's colour, which goes by the place ``among`` all methods."""
    colours = {m: method_colour(m, methods if among is None else among) for m in methods}
    return [Line2D([], [], color=colour, linewidth=3, label=m) for m, colour in colours.items()]


def point_key(label: str, marker: str = "o", **style) -> Line2D:
    """A marker without a line."""
    return Line2D([], [], marker=marker, linewidth=0, label=label, **style)


def chains_note(frame: pd.DataFrame) -> str:
    """How many chains the lines are means of."""
    counts = frame.drop_duplicates(["method", "order", "seed"]).groupby("method").size()
    n = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    return "one chain per method" if n == "1" else f"lines: means over {n} chains per method"
