"""The look of all figures, and the one way to save them.

Figures are files here, never windows, and are kept out of pyplot's list of open ones, so that many can be
drawn in one process. Nothing here needs torch: figures can be drawn again from their CSV on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anamnesis.core.artifacts import atomic_path
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.training.slices import method_names, slice_of

WIDTH = 7.0  # inches: the text width of one printed page
PNG_DPI = 200
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

# One colour per method in every figure, told apart by the common kinds of colour blindness (after Okabe & Ito
# 2008 and Tol 2021): a method and its guided form always differ in hue and in lightness.
METHOD_COLOURS: Mapping[str, str] = {"before training": "#6b6b6b"} | {
    name + suffix: colour
    for name in method_names()
    for suffix, colour in zip(("", GUIDED_SUFFIX), slice_of(name).colours, strict=True)
}
_OTHER_COLOURS = (
    "#999933", "#aa4499", "#1b7837", "#4477aa", "#994455", "#777777", "#2aa198", "#661100", "#88aaee",
    "#c4a000", "#3b3b98", "#d98880",
)  # fmt: skip

CONDITION_COLOURS: Mapping[str, str] = {
    "add": "#0072b2", "remove": "#d55e00", "random": "#8c8c8c", "none": "#222222", "few-shot": "#009e73",
}  # fmt: skip

RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same glyphs
    "font.size": 8.0, "axes.titlesize": 8.0, "axes.labelsize": 8.0, "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0, "legend.fontsize": 7.5, "figure.titlesize": 9.5, "axes.titleweight": "normal",
    "axes.titlelocation": "left", "axes.edgecolor": MUTED, "axes.linewidth": 0.6, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.6,
    "lines.linewidth": 1.4, "legend.frameon": False, "figure.facecolor": "white",
    "savefig.facecolor": "white", "figure.dpi": 100, "pdf.fonttype": 42, "axes.unicode_minus": True,
}  # fmt: skip


class Drawn(NamedTuple):
    """What the function of a figure returns: the figure, the data it shows, and the contents of the files
    that go with it (``FigureEntry.texts``).
    """

    figure: Figure
    data: pd.DataFrame
    texts: Sequence[pd.DataFrame | str] = ()


def styled() -> AbstractContextManager[None]:
    """A context in which matplotlib starts from its own defaults plus this project's settings, whatever the
    user has.
    """
    return style.context(["default", RC])


def new_figure(height: float) -> Figure:
    """An empty figure of the common width; ``height`` in inches. Call it within :func:`styled`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def method_colour(method: str, methods: Iterable[str] = ()) -> str:
    """The fixed colour of a method; one that is not in the palette gets a spare colour by its place among
    ``methods``.
    """
    if method in METHOD_COLOURS:
        return METHOD_COLOURS[method]
    strangers = sorted(set(methods) - set(METHOD_COLOURS)) or [method]
    place = strangers.index(method) if method in strangers else 0
    return _OTHER_COLOURS[place % len(_OTHER_COLOURS)]


def readable(name: str) -> str:
    """A set's or task's name as printed in figures: underscores become spaces."""
    return str(name).replace("_", " ")


def save_figure(figure: Figure, frame: pd.DataFrame, stem: str | Path) -> tuple[Path, Path, Path]:
    """Write ``<stem>.pdf``, ``<stem>.png`` and ``<stem>.csv`` (the data shown).

    Each file is written beside its place and renamed into it, so no reader sees half a file, and carries no
    date or version: the same figure gives the same bytes.

    Returns the three paths (PDF, PNG, CSV). Raises UserError when the disk is full or the folder cannot be
    written; nothing half-written stays behind.
    """
    stem = Path(stem)
    pdf, png, csv = (stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png", ".csv"))
    with styled():
        with atomic_path(pdf) as part:
            figure.savefig(part, format="pdf", metadata={"CreationDate": None, "Producer": None})
        with atomic_path(png) as part:
            figure.savefig(part, format="png", dpi=PNG_DPI, metadata={"Software": None})
    with atomic_path(csv) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
    return pdf, png, csv
