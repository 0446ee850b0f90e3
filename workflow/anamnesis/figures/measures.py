"""What the figures that show four measures side by side have in common: names, values in per cent, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

TITLES = {
    "hp": "HP: held-out, zero-shot",
    "ip": "IP: held-out, few-shot",
    "op": "OP: training tasks",
    "forgetting": "Forgetting (less is better)",
}
_NARROWEST = 10.0  # percentage points: differences of a few examples are not blown up


def shown_measures(frame: pd.DataFrame) -> list[str]:
    """The measures that have a value: after a single stage there is no forgetting."""
    return [name for name in TITLES if frame[name].notna().any()]


def limits(values: Iterable[float]) -> tuple[float, float]:
    """Ends of an axis (per cent) with all ``values`` (fractions) on it and some room at both sides."""
    found = 100 * np.asarray(list(values), dtype=float)
    low, high = np.nanmin(found), np.nanmax(found)
    room = max(0.08 * (high - low), (_NARROWEST - (high - low)) / 2, 1.0)
    return float(low - room), float(high + room)


def offsets(count: int, width: float) -> np.ndarray:
    """Places around zero, ``width`` apart in all, for ``count`` points that would lie on each other."""
    return np.linspace(-width / 2, width / 2, count) if count > 1 else np.zeros(1)


def by_chain(frame: pd.DataFrame, methods: Iterable[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each method, by order and seed."""
    for method in methods:
        yield method, frame[frame["method"] == method].sort_values(["order", "seed"])
