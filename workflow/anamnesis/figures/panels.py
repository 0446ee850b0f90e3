"""What the figures with one panel per set have in common."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from anamnesis.core.errors import UserError
from anamnesis.figures.style import method_colour, readable
from anamnesis.stats.forgetting import require_columns

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHED, DOTTED = (0, (3.2, 1.4)), (0, (1, 1.2))


def check(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise UserError when the frame lacks one of ``columns`` or has no row."""
    require_columns(frame, columns, what)
    if frame.empty:
        raise UserError(f"the {what} is empty: there is nothing to draw")


def title(axes: Axes, name: str, room: int = 24) -> None:
    """The name of a set above its panel, in letters small enough for ``room`` of the usual size."""
    text = readable(name)
    axes.set_title(text, fontsize=max(5.0, min(7.5, 7.5 * room / len(text))))


def per_cent(axes: Axes) -> None:
    """An axis from 0 to 100."""
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])


def stages(axes: Axes, frame: pd.DataFrame) -> None:
    """The stages as ticks, at most ten of them."""
    found = sorted(int(stage) for stage in frame["stage"].unique())
    axes.set_xlim(found[0] - 0.25, found[-1] + 0.25)
    axes.set_xticks(found[:: -(-len(found) // 10)])


def method_key(methods: Sequence[str]) -> list[Line2D]:
    """A thick line in each method's colour."""
    return [Line2D([], [], color=method_colour(m, methods), linewidth=3, label=m) for m in methods]


def chains_note(frame: pd.DataFrame) -> str:
    """How many chains the lines are means of."""
    counts = frame.drop_duplicates(["method", "order", "seed"]).groupby("method").size()
    n = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    return "one chain per method" if n == "1" else f"lines: means over {n} chains per method"
