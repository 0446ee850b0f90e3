"""The report's first screen: what was lost, what stayed, what guidance changed, in numbers with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.figures.style import readable
from anamnesis.report.builder import Number
from anamnesis.report.sentences import MEASURE_NAMES, counted, differs, percent, points
from anamnesis.stats.held_out import AT, MEAN
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.summary import BASELINE

STAYED = 0.03  # a change that counts as none, unless its interval says otherwise
WORDS = {**MEASURE_NAMES, "knowledge": "knowledge accuracy"}


def first_numbers(held_out: pd.DataFrame, table: pd.DataFrame) -> list[Number]:
    """At most three numbers: zero-shot accuracy lost on held-out sets, knowledge, and what guidance changed.

    ``held_out``: of ``stats.held_out``; ``table``: Table 1.
    """
    method = plain_method(held_out)
    means = _means(held_out, method)
    numbers = []
    if "hp" in means.index:
        numbers.append(_lost_number(means.loc["hp"], held_out, method))
    if "knowledge" in means.index:
        row = means.loc["knowledge"]
        sentence = (
            f"Knowledge accuracy, on the {counted(row['sets'], 'held-out set')} that can be asked as a plain "
            f"statement, went from {percent(row['before'])} to {percent(row['after'])}."
        )
        sentence += _instructed(held_out, method)
        numbers.append(_number(_kept(row), row["change"], row, sentence))
    pairs = table[(table["kind"] == "difference") & (table["method"] == method) & (table["n"] > 0)]
    for _, row in pairs[pairs["measure"] == "hp"].iterrows():
        sentence = _guided_sentence(row, pairs, method) + _harm(pairs, table, method)
        numbers.append(_number("What guidance changed", row["mean"], row, sentence))
    return numbers


def _instructed(held_out: pd.DataFrame, method: str) -> str:
    """How the sets that have a knowledge form did when asked with an instruction: the same sets compared."""
    own = held_out[(held_out["method"] == method) & (held_out["set"] != MEAN)]
    known = own.loc[own["measure"] == "knowledge", "set"]
    rows = own[(own["measure"] == "hp") & own["set"].isin(known)]
    if rows.empty:
        return ""
    before, after = (percent(rows[end].mean()) for end in ("before", "after"))
    return f" Asked with an instruction, the same sets went from {before} to {after}."


def _guided_sentence(row: pd.Series, pairs: pd.DataFrame, method: str) -> str:
    """Where held-out accuracy ends with guidance."""
    ends = "as high as"
    if differs(row["mean"]):
        size = points(abs(row["mean"])).removeprefix("+")
        ends = f"{size} {'higher' if row['mean'] > 0 else 'lower'} than"
    accuracy = f"With guidance ({row['guided']}), zero-shot accuracy on held-out sets"
    return f"{accuracy} ends {ends} without ({method})."


def _harm(pairs: pd.DataFrame, table: pd.DataFrame, method: str) -> str:
    """What guidance does harm to beyond chance."""
    levels = table[table["kind"] == "level"].set_index(["method", "measure"])["mean"]
    harmed = []
    for _, row in pairs[pairs["measure"].isin(["ip", "op", "forgetting"])].iterrows():
        if row["low"] > 0 if row["measure"] == "forgetting" else row["high"] < 0:
            plain, guided = (percent(levels[name, row["measure"]]) for name in (method, row["guided"]))
            harmed.append(f"{WORDS[row['measure']]} is {guided} in place of {plain} ({_range(row)} points)")
    return f" Harm: {'; '.join(harmed)}." if harmed else ""


def _range(row: pd.Series) -> str:
    """ "+7.6, interval +1.1 to +14.2", in points."""
    mean, low, high = (points(row[key]).removesuffix("\u00a0points") for key in ("mean", "low", "high"))
    return f"{mean}, interval {low} to {high}"


def _lost_number(row: pd.Series, held_out: pd.DataFrame, method: str) -> Number:
    sentence = (
        f"Training with {method} took zero-shot accuracy on {counted(row['sets'], 'held-out set')} "
        f"from {percent(row['before'])} to {percent(row['after'])}"
    )
    each = held_out[
        (held_out["measure"] == "hp") & (held_out["method"] == method) & (held_out["set"] != MEAN)
    ]
    if len(each) > 1 and each["change"].min() < 0:
        worst = each.loc[each["change"].idxmin()]
        fell = f"{int((each['change'] < 0).sum())} of {len(each)}"
        sentence += (
            f". It fell on {fell} of them, most on {readable(worst['set'])} ({points(worst['change'])})"
        )
    gained = row["change"] > 0 and differs(row["change"])
    return _number(f"What was {'gained' if gained else 'lost'}", row["change"], row, sentence + ".")


def _number(label: str, value: float, row: pd.Series, sentence: str) -> Number:
    """``row`` has the interval ``low`` to ``high`` of the value, its confidence and n."""
    shown, unit = points(value).split("\u00a0")
    return Number(label, shown, unit, _covered(row), _verdict(row), sentence)


def _covered(row: pd.Series) -> str:
    n = f"n\u00a0=\u00a0{counted(row['n'], 'chain')}"
    if pd.isna(row["low"]):
        return f"no interval, {n}"
    low, high = (points(row[end]).removesuffix("\u00a0points") for end in ("low", "high"))
    return f"{100 * row['confidence']:g}\u00a0% interval {low} to {high}, {n}"


def _verdict(row: pd.Series) -> str:
    """Whether it is chance, as far as the interval can tell."""
    if pd.isna(row["low"]):
        return "Is it chance? This cannot be told: " + (
            "one chain has no interval."
            if row["n"] < 2
            else "all chains agree, and without spread there is none."
        )
    if row["low"] <= 0 <= row["high"]:
        low, high = (points(row[end]).removesuffix("\u00a0points") for end in ("low", "high"))
        return f"Is it chance? No change is shown: one from {low} to {high} points is possible."
    if row["n"] >= MINIMUM_PAIRS:
        return "Is it chance? Hardly: the interval excludes zero."
    return (
        f"Is it chance? Not settled. The interval excludes zero, but {row['n']} chains change in one "
        f"direction by chance {200 * 0.5 ** row['n']:.2g} times in 100. More seeds would tell."
    )


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
    total = rows.iloc[0]["sets"]
    sets = counted(total, "set")
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
    sets = f"on the {counted(row['sets'], 'held-out set')} that can be asked as a plain statement"
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
    guided = pairs["guided"].iloc[0]
    shown = pairs[pairs["measure"].isin(["hp", "ip", "op", "forgetting"])]
    told = f"What guidance changed ({guided} − {method}): {_differences(shown)}."
    if comparisons is not None:
        for other, rows in _against(comparisons, guided).groupby("method", sort=False):
            told += f" {guided} − {other}: {_differences(rows)}."
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
        f"Whether the vector gives anything back: added after training with {method}, the instruction vector "
        f"of the model before training changes zero-shot accuracy by {vector}, a random vector of equal "
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
    """Measures that the sentences before have spelt out stand as letters."""
    return measure.upper() if measure in ("hp", "ip") else WORDS[measure]


def picture_alt(methods: Sequence[str]) -> str:
    """What the picture of the first screen shows, for those who do not see it."""
    names = ", ".join(name for name in methods if name != BASELINE)
    return (
        f"Held-out accuracy zero-shot, in context and as plain knowledge, and accuracy on the tasks: {names}"
    )
