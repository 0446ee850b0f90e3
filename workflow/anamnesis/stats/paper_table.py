"""An experiment compared with Table 1 of the paper: the same rows and measures, methods that both have."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.printed import HEADINGS, markdown_table
from anamnesis.stats.summary import BASELINE

_MEASURES = ("hp", "ip", "op")
NOTE = (
    "Per cent; in parentheses, what guidance changes, in points (here the mean of the paired differences and "
    "its interval). This run: mean ± s.d. over n chains. Published: another model, other data and other "
    "scoring, so its levels are no target for this run; what can be compared is which way guidance changes "
    "them."
)

DIRECTION = (
    "Which way guidance changes each measure, in the paper (a sign for each of its benchmarks) and here; "
    "decided only where the published signs agree and the interval here excludes zero."
)


def published_cells(table: pd.DataFrame, reference: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Table 1 in the paper's shape: (header, rows of strings), a method above its guided form.

    Parameters
    ----------
    table : ``stats.summary.table1`` (fractions).
    reference : ``benchmark, method, guided (yes|no), hp, ip, op`` (per cent), the published numbers.

    Columns are HP, IP and OP of this run, then those of each benchmark of the paper. Rows are the methods of
    ``reference`` that ``table`` has, in the order of ``reference``; none when there is none besides the
    untrained model.
    """
    benchmarks = list(dict.fromkeys(reference["benchmark"]))
    header = ["Method", *(HEADINGS[m] for m in _MEASURES)]
    header += [f"{HEADINGS[m]}, {name.upper()}" for name in benchmarks for m in _MEASURES]
    levels = table[table["kind"] == "level"].set_index(["method", "measure"])
    present = set(table.loc[table["kind"] == "level", "method"])
    rows = []
    for method in dict.fromkeys(reference["method"]):
        for guided in ("no", "yes"):
            name = method + (GUIDED_SUFFIX if guided == "yes" else "")
            published = reference[(reference["method"] == method) & (reference["guided"] == guided)]
            if name in present and len(published):
                here = [_here(levels, table, name, measure) for measure in _MEASURES]
                there = [_there(reference, b, method, guided, m) for b in benchmarks for m in _MEASURES]
                rows.append([f"{method} + IVG" if guided == "yes" else name, *here, *there])
    return header, rows if any(row[0] != BASELINE for row in rows) else []


def _here(levels: pd.DataFrame, table: pd.DataFrame, name: str, measure: str) -> str:
    level = levels.loc[(name, measure)]
    text = f"{100 * level['mean']:.1f}" + (f" ± {100 * level['sd']:.1f}" if level["n"] > 1 else "")
    text += f", n={level['n']}" if level["n"] else ""
    pair = table[(table["kind"] == "difference") & (table["guided"] == name) & (table["measure"] == measure)]
    for row in pair[pair["n"] > 0].itertuples():
        interval = f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]" if pd.notna(row.low) else ""
        text += f" ({100 * row.mean:+.1f}{interval})"
    return text.replace("-", "−")


def direction_cells(table: pd.DataFrame, reference: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Whether guidance changes what it changes in the paper: (header, rows of strings), a row per method.

    A cell says which way the published means move (+, − or 0, a sign for each benchmark), which way
    ours does, and "agrees" or "differs" where all published signs are the same and the interval of ours
    excludes zero;
    "undecided" otherwise.
    """
    header = ["Method", *(HEADINGS[m] for m in _MEASURES)]
    rows = []
    for method in dict.fromkeys(reference["method"]):
        guided = method + GUIDED_SUFFIX
        pairs = table[(table["kind"] == "difference") & (table["guided"] == guided) & (table["n"] > 0)]
        if len(pairs):
            ours = pairs.set_index("measure")
            rows.append([method, *(_direction(ours.loc[m], reference, method, m) for m in _MEASURES)])
    return header, rows


def _direction(ours: pd.Series, reference: pd.DataFrame, method: str, measure: str) -> str:
    wide = reference[reference["method"] == method].pivot(index="benchmark", columns="guided", values=measure)
    changes = (wide["yes"] - wide["no"]).dropna() if {"yes", "no"} <= set(wide) else []
    published, here = "".join(_sign(change, 2) for change in changes), _sign(100 * ours["mean"], 1)
    sure = ours["low"] > 0 or ours["high"] < 0
    verdict = "undecided"
    if sure and len(set(published)) == 1 and "0" not in published + here:
        verdict = "agrees" if here == published[0] else "differs"
    weak = ", few pairs" if verdict != "undecided" and ours["n"] < MINIMUM_PAIRS else ""
    return f"published {published or '–'}, here {here}: {verdict}{weak}"


def _sign(change: float, decimals: int) -> str:
    """Which way a change in points goes, as it is printed: +, − or 0."""
    rounded = round(change, decimals)
    return "+" if rounded > 0 else "−" if rounded < 0 else "0"


def _there(reference: pd.DataFrame, benchmark: str, method: str, guided: str, measure: str) -> str:
    rows = reference[(reference["benchmark"] == benchmark) & (reference["method"] == method)]
    values = rows.set_index("guided")[measure].dropna()
    if guided not in values:
        return "–"
    text = f"{values[guided]:.2f}"
    if guided == "yes" and "no" in values:
        text += f" ({values['yes'] - values['no']:+.2f})"
    return text.replace("-", "−")


def published_markdown(table: pd.DataFrame, reference: pd.DataFrame) -> str:
    """:func:`published_cells` as a Markdown section; empty when no method is in both."""
    header, rows = published_cells(table, reference)
    if not rows:
        return ""
    note = f"{NOTE} {sources(reference)}."
    text = f"\n## Compared with the published numbers\n\n{markdown_table(header, rows)}\n\n{note}\n"
    header, rows = direction_cells(table, reference)
    return text + (f"\n{DIRECTION}\n\n{markdown_table(header, rows)}\n" if rows else "")


def sources(reference: pd.DataFrame) -> str:
    """Where the published numbers are from: the first, fullest statement."""
    found: Sequence[str] = reference["source"].dropna().astype(str)
    return max(found, key=len, default="")
