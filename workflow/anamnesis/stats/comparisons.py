"""Methods compared chain by chain, beyond the pairs of Table 1: each method with plain fine-tuning, each
variant with what it varies and with its controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.printed import HEADINGS, difference_cell, markdown_table
from anamnesis.stats.summary import MEASURES, difference_row, paired_differences

COLUMNS = (
    "kind", "method", "against", "order", "measure", "mean", "sd", "n", "low", "high", "confidence",
    "interval",
)  # fmt: skip
TITLES = {
    "method": "Methods against plain sequential adapters",
    "variant": "Variants and controls",
    "order": "Each order of tasks by itself",
}


def comparison_table(
    measures: pd.DataFrame,
    compared: Sequence[Mapping[str, str]],
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """One row per comparison and measure: the mean of method − against over the (order, seed) that both have.

    Parameters
    ----------
    measures : ``stats.summary.chain_measures``.
    compared : rows ``kind, method, against`` (``config.variants.paired_comparisons``), and ``order`` where
        only one counts.
    resamples, confidence : of ``stats.intervals.paired_interval``.

    Returns
    -------
    Frame with :data:`COLUMNS`; all values are fractions. ``order`` is empty where all orders count. What has
    no pair yet, as a variant that was listed after the chains were run, has no rows.
    """
    rows: list[dict] = []
    for row in compared:
        pairs = paired_differences(measures, row["against"], row["method"])
        if "order" in row:
            pairs = pairs[pairs.index.get_level_values("order") == row["order"]]
        for name in MEASURES if len(pairs) else ():
            found = difference_row(pairs, row["against"], row["method"], name, resamples, confidence)
            rows.append({**found, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"order": "Int64"})


def by_order(measures: pd.DataFrame, compared: Sequence[Mapping[str, str]]) -> list[dict]:
    """Rows for :func:`comparison_table`, of kind "order": guided methods, and what is ``compared``, in
    each order of tasks by itself, where both went through several. A difference may depend on the order.
    """
    names, rows = list(dict.fromkeys(measures["method"])), []
    guided = [(name + GUIDED_SUFFIX, name) for name in names if name + GUIDED_SUFFIX in names]
    for method, against in dict.fromkeys([*guided, *((row["method"], row["against"]) for row in compared)]):
        orders = paired_differences(measures, against, method).index.unique("order")
        several = orders if len(orders) > 1 else ()
        rows += [{"kind": "order", "method": method, "against": against, "order": o} for o in several]
    return rows


def comparison_cells(table: pd.DataFrame, kind: str) -> tuple[list[str], list[list[str]]]:
    """The comparisons of a kind as printed: (header, rows of strings), in points."""
    rows, of_order = [], kind == "order"
    chosen = table[table["kind"] == kind]
    for (method, against, order), group in chosen.groupby(
        ["method", "against", "order"], sort=False, dropna=False
    ):
        cells = group.set_index("measure")
        differences = (difference_cell(cells.loc[name]) for name in MEASURES)
        rows.append([method, against, *([f"{order:g}"] if of_order else []), *differences])
    return ["Method", "Against", *["Order"] * of_order, *(f"Δ {name}" for name in HEADINGS.values())], rows


def comparison_note(table: pd.DataFrame) -> str:
    """How many intervals there are, and how many exclude zero: some would by chance."""
    whole = table[table["low"].notna()]
    if whole.empty:
        return "Points; one pair each, or equal ones, so nothing can be said about other seeds."
    sure = int(((whole["low"] > 0) | (whole["high"] < 0)).sum())
    level = whole["confidence"].iloc[0]
    note = (
        f"Points: method − against, pair by pair of order and seed; {100 * level:g} % intervals. Forgetting "
        f"is better when lower, all others when higher. {sure} of {len(whole)} intervals exclude zero, where "
        f"{(1 - level) * len(whole):.2g} would if nothing made any difference"
    )
    least = int(whole["n"].min())
    return note + (f"; weak evidence with n = {least}." if least < MINIMUM_PAIRS else ".")


def comparison_markdown(table: pd.DataFrame) -> str:
    """All comparisons as Markdown sections; empty when there are none."""
    parts = []
    for kind, title in TITLES.items():
        header, rows = comparison_cells(table, kind)
        if rows:
            note = comparison_note(table[table["kind"] == kind])
            parts.append(f"\n## {title}\n\n{markdown_table(header, rows)}\n\n{note}\n")
    return "".join(parts)
