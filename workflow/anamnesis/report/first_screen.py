"""The report's first screen: what was lost, what stayed, what guidance changed, in numbers with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.report.sentences import percent, points
from anamnesis.stats.held_out import AT, MEAN
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.summary import BASELINE

STAYED = 0.03  # a change that counts as none, unless its interval says otherwise
WORDS = {
    "hp": "zero-shot accuracy on held-out sets (HP)",
    "ip": "in-context accuracy on held-out sets (IP)",
    "knowledge": "knowledge accuracy",
    "op": "accuracy on the training tasks (OP)",
    "forgetting": "forgetting of the training tasks",
}


def first_paragraphs(
    held_out: pd.DataFrame,
    table: pd.DataFrame,
    comparisons: pd.DataFrame | None = None,
    recovered: pd.DataFrame | None = None,
) -> list[str]:
    """At most four paragraphs: lost, stayed, guidance, what the vector gives back.

    ``held_out``: of ``stats.held_out``; ``table``: Table 1; ``comparisons``: other pairs of methods
    (``stats.comparisons``); ``recovered``: ``stats.vector_recovery.recovery_gain``.
    """
    method = plain_method(held_out)
    parts = [
        _lost(held_out, method),
        _stayed(held_out, method),
        _guidance(table, method, comparisons),
        _given_back(recovered, method),
    ]
    return [part for part in parts if part]


def plain_method(held_out: pd.DataFrame) -> str:
    """The method that the first screen is about: the first that is not guided."""
    methods = list(held_out["method"].unique())
    return next((name for name in methods if not name.endswith(GUIDED_SUFFIX)), methods[0])


def _means(held_out: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = held_out[(held_out["set"] == MEAN) & (held_out["method"] == method)]
    return rows.set_index("measure")


def _lost(held_out: pd.DataFrame, method: str) -> str:
    rows = _means(held_out, method)
    asked = [rows.loc[name] for name in ("hp", "ip") if name in rows.index]
    told = [_change(row, WORDS[row.name]) + _zero(row) for row in asked]
    if not told:
        return ""
    marked = int(rows.loc["hp", "marked"]) if "hp" in rows.index else 0
    sets = f"{rows.iloc[0]['sets']} sets"
    note = f" Before training, {marked} of {sets} {'are' if marked > 1 else 'is'} {AT}." if marked else ""
    more = ""
    if "ip_hp" in rows.index:
        row = rows.loc["ip_hp"]
        change = f"{points(row['change'])}{interval(row)}"
        more = f" The change in context minus the change zero-shot is {change}{_zero(row)}."
    return f"What was lost with {method}: " + "; ".join(told) + "." + more + note


def _stayed(held_out: pd.DataFrame, method: str) -> str:
    rows = _means(held_out, method)
    if "knowledge" not in rows.index:
        return ""
    row = rows.loc["knowledge"]
    sets = f"on the {row['sets']} held-out sets that can be asked as a plain statement"
    return f"{_kept(row)}: {_change(row, WORDS['knowledge'])}, {sets}{_zero(row)}."


def _kept(row: pd.Series) -> str:
    """What may be said of knowledge: it fell where the interval is below zero; it stayed where its mean moved
    by ``STAYED`` at most; otherwise neither.
    """
    if row["high"] < 0:
        return "Knowledge fell too"
    return "What stayed" if abs(row["change"]) <= STAYED else "Whether knowledge stayed is undecided"


def _zero(row: pd.Series) -> str:
    """The end of a sentence about a change whose interval contains zero; nothing for others."""
    return ": the interval contains zero, so no change is shown" if row["low"] <= 0 <= row["high"] else ""


def _change(row: pd.Series, name: str) -> str:
    return (
        f"{name} went from {percent(row['before'])} to {percent(row['after'])}, "
        f"{points(row['change'])}{interval(row)}"
    )


def interval(row: pd.Series) -> str:
    """The interval of a change or difference with its n, in brackets."""
    if pd.isna(row["low"]):
        return f" (n\u00a0=\u00a0{row['n']}, no interval)"
    low, high = (points(row[end]).removesuffix("\u00a0points") for end in ("low", "high"))
    return f" [{low}, {high}] (n\u00a0=\u00a0{row['n']})"


def _guidance(table: pd.DataFrame, method: str, comparisons: pd.DataFrame | None) -> str:
    pairs = table[(table["kind"] == "difference") & (table["method"] == method) & (table["n"] > 0)]
    if pairs.empty:
        return ""
    guided = pairs["twin"].iloc[0]
    shown = pairs[pairs["measure"].isin(["hp", "ip", "op", "forgetting"])]
    told = f"What guidance changed ({guided} − {method}): {_differences(shown)}."
    if comparisons is not None:
        for other, rows in _against(comparisons, guided).groupby("method", sort=False):
            told += f" Against {other}: {_differences(rows)}."
    least = int(shown["n"].min())
    if least < MINIMUM_PAIRS:
        told += (
            f" With n = {least} this is weak evidence: as many differences of one sign happen by chance "
            f"with probability {2.0 ** (1 - least):.2g}."
        )
    return told


def _given_back(recovered: pd.DataFrame | None, method: str) -> str:
    """What adding the instruction vector to the trained model does, averaged over the sets."""
    if recovered is None:
        return ""
    rows = recovered[recovered["method"] == method]
    if rows.empty:
        return ""
    row, sets = rows.iloc[-1], max(1, rows["set"].nunique() - 1)  # the mean of several sets comes last
    vector, random = (
        points(row[key]) + interval(row.rename({f"{key}_low": "low", f"{key}_high": "high"}))
        for key in ("gain", "random_gain")
    )
    return (
        f"What the vector gives back: added after training with {method}, the instruction vector of "
        f"the model before training changes zero-shot accuracy by {vector}, a random vector of equal "
        f"length by {random} (mean of {sets} set{'s' * (sets != 1)})."
    )


def _against(comparisons: pd.DataFrame, guided: str) -> pd.DataFrame:
    """Guided − control, for every variant that the configuration compares with the guided method."""
    rows = comparisons[(comparisons["kind"] == "variant") & (comparisons["against"] == guided)]
    rows = rows[rows["measure"].isin(["hp", "ip"]) & (rows["n"] > 0)]
    return rows.assign(mean=-rows["mean"], low=-rows["high"], high=-rows["low"])


def _differences(rows: pd.DataFrame) -> str:
    told = (f"{_short(row['measure'])} {points(row['mean'])}{interval(row)}" for _, row in rows.iterrows())
    return "; ".join(told)


def _short(measure: str) -> str:
    return measure if measure == "forgetting" else measure.upper()


def picture_alt(methods: Sequence[str]) -> str:
    """What the picture of the first screen shows, for those who do not see it."""
    names = ", ".join(name for name in methods if name != BASELINE)
    return (
        f"Held-out accuracy zero-shot, in context and as plain knowledge, and accuracy on the tasks: {names}"
    )
