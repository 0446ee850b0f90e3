"""What the frames say, in words: every number is taken from the frame, and so is every judgement.

Nothing here assumes that guidance helps. A difference is called one only when its interval lies on one side
of zero, and is called weak evidence when there are few pairs.
"""

from __future__ import annotations

import math

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.stats.forgetting import few_shots
from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.printed import HEADINGS
from anamnesis.stats.summary import BASELINE

MEASURE_NAMES = {
    "hp": "zero-shot accuracy on held-out sets (HP)",
    "ip": "in-context accuracy on held-out sets (IP)",
    "op": "zero-shot accuracy on the training tasks (OP)",
    "forgetting": "forgetting of the training tasks",
    "bwt": "backward transfer",
}
_LESS_IS_BETTER = {"forgetting"}

FEW = 4
"""So many methods, or pairs of them, get a sentence each; the table has all of them."""


def percent(value: float) -> str:
    """A fraction as per cent with one decimal: 0.469 -> "46.9 %" (a dash when it is not defined)."""
    return "–" if math.isnan(value) else f"{100 * value:z.1f}\u00a0%".replace("-", "−")


def points(value: float) -> str:
    """A difference of fractions in percentage points with its sign: 0.213 -> "+21.3 points"."""
    return "–" if math.isnan(value) else f"{100 * value:+z.1f}\u00a0points".replace("-", "−")


def number(value: float) -> str:
    """A correlation with two decimals and a real minus sign."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def differs(value: float) -> bool:
    """Whether a difference of fractions is printed as anything but 0.0 points."""
    return round(abs(100 * value), 1) > 0


def counted(count: int, word: str) -> str:
    """A number of things: 1 -> "1 set", 5 -> "5 sets"."""
    return f"{count} {word}" if int(count) == 1 else f"{count} {word}s"


def asked(form: str, shots: int) -> str:
    """How a question was put, in words."""
    return f"{form}, {shots}-shot" if shots else f"{form}, zero-shot"


def level_sentence(table: pd.DataFrame, measure: str) -> str:
    """One sentence with the value of ``measure`` before training and for every method at the end, or, of more
    than ``FEW`` methods, the lowest and the highest.
    """
    levels = table[(table["kind"] == "level") & (table["measure"] == measure) & (table["n"] > 0)]
    before = levels.loc[levels["method"] == BASELINE, "mean"]
    trained = levels[levels["method"] != BASELINE]
    if many := len(trained) > FEW:
        trained = trained.sort_values("mean").iloc[[0, -1]]
    parts = [f"{percent(row.mean)} with {row.method} (n\u00a0=\u00a0{row.n})" for row in trained.itertuples()]
    name = MEASURE_NAMES[measure]
    start = f"{name[0].upper()}{name[1:]}"
    if not parts:
        return f"{start}: not defined for this experiment."
    after = "lies between" if many else "is"
    first = (
        f" was {percent(float(before.iloc[0]))} before training and {after}" if len(before) else f" {after}"
    )
    return f"{start}{first} {_listed(parts)} after the last stage."


def difference_sentences(table: pd.DataFrame, measure: str) -> list[str]:
    """One sentence per guided method: its paired difference to the plain one, the interval, and what may be
    said. Of more than ``FEW`` pairs :func:`guidance_sentences` says what there is to say.
    """
    rows = table[(table["kind"] == "difference") & (table["measure"] == measure)]
    return [_difference_sentence(row, measure) for row in rows.itertuples()]


def _difference_sentence(row, measure: str) -> str:
    start = f"{row.guided} against {row.method}, {MEASURE_NAMES[measure]}: "
    if row.n == 0:
        return start + "no order and seed that both have a value for, so nothing can be compared."
    start += points(row.mean)
    if row.n == 1:
        return start + " (n\u00a0=\u00a01 pair, no interval): one pair says nothing about other seeds."
    if math.isnan(row.low):
        return start + f" in all of n\u00a0=\u00a0{row.n} pairs: without spread there is no interval."
    covered = f"{100 * row.confidence:g}\u00a0% interval {points(row.low)} to {points(row.high)}"
    return start + f" ({covered}, n\u00a0=\u00a0{row.n} pairs): " + verdict(row.low, row.high, row.n, measure)


def guidance_sentences(table: pd.DataFrame) -> list[str]:
    """One sentence: for how many methods each measure is better with guidance, and for how many of them by an
    interval without zero.
    """
    pairs = table[(table["kind"] == "difference") & (table["n"] > 0)]
    parts = []
    for measure in ("hp", "ip", "op", "forgetting"):
        rows = pairs[pairs["measure"] == measure]
        sign = -1 if measure in _LESS_IS_BETTER else 1
        nearest = sign * rows["low" if sign > 0 else "high"]
        better, sure = int((sign * rows["mean"] > 0).sum()), int((nearest > 0).sum())
        if len(rows):
            parts.append(f"{HEADINGS[measure]} for {better} ({sure}) of {len(rows)}")
    if not parts:
        return []
    said = (
        f"Methods whose mean is better with guidance: {_listed(parts)}; in parentheses, those of them whose "
    )
    said += "interval excludes zero"
    least = int(pairs["n"].min())
    return [f"{said}, weak evidence with n\u00a0=\u00a0{least}." if least < MINIMUM_PAIRS else f"{said}."]


def variants_sentences(frame: pd.DataFrame) -> list[str]:
    """One sentence per method that has variants: IP of the lowest and highest variant, and its own, in the
    orders and seeds that they have in common. ``frame``: of the figure (``variant_panels.variants_frame``).
    """
    sentences = []
    for base, rows in frame.groupby("base", sort=False):
        means = rows.groupby("method", sort=False)["ip"].mean().dropna()
        found = means.drop([base, base.removesuffix(GUIDED_SUFFIX)], errors="ignore")
        if found.empty:
            continue
        low, high = str(found.idxmin()), str(found.idxmax())
        said = f"is {percent(found[low])} with {low}"
        if low != high:
            said = f"lies between {percent(found[low])} ({low}) and {percent(found[high])} ({high})"
        own = f"; with {base} itself it is {percent(means[base])}" if base in means else ""
        sentences.append(f"IP of the variants of {base} {said}{own}.")
    return sentences


def verdict(low: float, high: float, pairs: int, measure: str) -> str:
    """What an interval of the paired difference (guided − plain) allows to be said, as the end of a
    sentence.
    """
    if low <= 0 <= high:
        return "the interval contains zero, so no difference is shown."
    better = (low > 0) != (measure in _LESS_IS_BETTER)
    words = "guidance did better" if better else "guidance did worse"
    if pairs < MINIMUM_PAIRS:
        return f"{words} in these runs, but with {pairs} pairs this is weak evidence."
    return f"{words}; the interval excludes zero."


def forms_sentences(curves: pd.DataFrame) -> list[str]:
    """How instruction and knowledge accuracy moved from stage 0 to the last on held-out sets with both forms:
    a sentence per method, or one for all where there are more than ``FEW``.

    Zero-shot; empty when no held-out set has a knowledge form.
    """
    held = curves[(curves["role"] == "held_out") & (curves["shots"] == 0)]
    names = set(held.loc[held["form"] == "knowledge", "set"]) & set(
        held.loc[held["form"] == "instruction", "set"]
    )
    held = held[held["set"].isin(names)]
    if held.empty:
        return []
    ends = held.groupby(["method", "form", "stage"])["value"].mean().unstack("stage")
    moved = (ends[stage].unstack() for stage in (ends.columns.min(), ends.columns.max()))
    first, last = (frame.loc[held["method"].unique()] for frame in moved)
    sets = "on the held-out set that has both forms"
    if len(names) > 1:
        sets = f"on the {len(names)} held-out sets that have both forms"
    if len(first) > FEW:
        moves = [
            f"{form} accuracy fell with {int((last[form] < first[form]).sum())} of {len(first)} methods, "
            f"and moved by {points(float((last - first)[form].mean()))} on average"
            for form in ("instruction", "knowledge")
        ]
        return [f"Zero-shot, {sets}, mean over sets and seeds: {_listed(moves)}."]
    return [
        f"{method}: {sets}, instruction accuracy went from {percent(first.instruction[method])} to "
        f"{percent(last.instruction[method])} and knowledge accuracy from {percent(first.knowledge[method])} "
        f"to {percent(last.knowledge[method])} (zero-shot, mean over sets and seeds)."
        for method in first.index
    ]


def curves_sentences(curves: pd.DataFrame) -> list[str]:
    """On how many held-out sets few-shot accuracy fell from stage 0 to the last stage, and the set that moved
    most: a sentence per method, or one for all where there are more than ``FEW``.
    """
    shots = few_shots(curves)
    part = curves[
        (curves["role"] == "held_out") & (curves["form"] == "instruction") & (curves["shots"] == shots)
    ]
    if part.empty:
        return []
    mean = part.groupby(["method", "set", "stage"])["value"].mean().unstack("stage")
    change = (mean[mean.columns.max()] - mean[mean.columns.min()]).unstack("set").loc[part["method"].unique()]
    if len(change) > FEW:
        fell, moved = change.lt(0).sum(), change.mean()
        said = (
            f"{shots}-shot accuracy is lower after the last stage than before training in "
            f"{int(fell.sum())} of {change.size} pairs of a method and a held-out set"
        )
        if fell.any():
            name = str(fell.idxmax())
            said += (
                f"; most often on {name} ({int(fell[name])} of {len(change)} methods, "
                f"{points(float(moved[name]))} on average)"
            )
        return [f"{said}."]
    sentences = []
    for method, row in change.iterrows():
        name = str(row.abs().idxmax())
        most = "it is the same on all"
        if differs(row[name]):
            most = f"it moved most on {name} ({points(float(row[name]))})"
        sentences.append(
            f"{method}: {shots}-shot accuracy is lower after the last stage than before training on "
            f"{int((row < 0).sum())} of {counted(len(row), 'held-out set')}; {most}."
        )
    return sentences


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
