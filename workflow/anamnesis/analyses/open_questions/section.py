"""The report's section on questions that the papers leave open: each with a figure and a plain answer.

An answer is one of three: the data support the claim, they do not, or they are too few to tell.
"""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.open_questions.tables import (
    PREDICTORS,
    gain_correlations,
    mean_gains,
    sufficiency_contrasts,
    wording_accuracy,
    wording_contrasts,
    wording_levels,
)
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.report.builder import Section
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import number, percent, points
from anamnesis.stats.intervals import MINIMUM_PAIRS

SUPPORTS, DOES_NOT, TOO_LITTLE = "the data support this", "the data do not support this", "too little data"
NEGLIGIBLE = 0.05  # a difference whose interval ends below it counts as none

ALTERNATIVES = {
    "guidance_gain": "Gain by guidance against three measures of a task's simplicity",
    "wordings": "Accuracy under other wordings, one panel per set, zero-shot and few-shot",
    "sufficiency": "Accuracy against the number of heads in the vector, one panel per set",
}


def sections(results: AnalysisResults) -> list[Section]:
    """Every question that has a figure, with its sentences; and the held-out sets without paraphrases."""
    statistics, held_out = results.config["statistics"], results.config["suite"]["held_out"]
    chance = statistics["bootstrap_resamples"], statistics["confidence"]
    asked = {
        "guidance_gain": gain_sentences,
        "wordings": wording_sentences,
        "sufficiency": sufficiency_sentences,
    }
    pictures = [
        results.picture(name, ALTERNATIVES[name], sentences(results.frames[name], *chance))
        for name, sentences in asked.items()
        if name in results.figures
    ]
    bare = [name for name in held_out if name not in set(results.frames["wordings"]["set"])]
    left_out = f"Held-out sets without paraphrases (analyses.paraphrases) are left out: {', '.join(bare)}."
    return [Section("Open questions", paragraphs=[left_out] if bare else [], pictures=pictures)]


def gain_sentences(frame: pd.DataFrame, resamples: int, confidence: float) -> list[str]:
    """Per guided method: how its gain goes with simplicity, over tasks."""
    means, said = mean_gains(frame), []
    found = pd.DataFrame(gain_correlations(frame, resamples, confidence))
    for method, rows in found.groupby("method", sort=False):
        own = means[means["method"] == method]
        tasks, pairs = len(own), int(own["pairs"].max())
        parts = [
            f"{PREDICTORS[row.predictor]} {number(row.spearman)}{_ends(row, tasks)}"
            for row in rows.itertuples()
        ]
        falls = [row.high < 0 for row in rows.itertuples()]
        if tasks < MINIMUM_PAIRS:
            answer = f"{TOO_LITTLE} (fewer than {MINIMUM_PAIRS} tasks)"
        else:
            answer = f"{SUPPORTS} ({sum(falls)} of {len(falls)} measures)" if any(falls) else DOES_NOT
        said.append(
            f"{method}{GUIDED_SUFFIX} against {method}: the gain on training tasks is "
            f"{points(own['gain'].mean())} on average, and its rank correlation with {_listed(parts)} "
            f"(n\u00a0=\u00a0{tasks} tasks, means over {pairs} pair{'s' * (pairs > 1)} of chains). That it "
            f"is larger for short instructions and for few different answers: {answer}."
        )
    return said


def _ends(row, tasks: int) -> str:
    """The interval of a correlation, where there are enough tasks for one to mean anything."""
    return "" if tasks < MINIMUM_PAIRS else f" ({number(row.low)} to {number(row.high)})"


def wording_sentences(frame: pd.DataFrame, resamples: int, confidence: float) -> list[str]:
    """What other wordings cost, before and after, and whether guidance helps under them."""
    found = wording_contrasts(frame, resamples, confidence)
    levels = wording_levels(wording_accuracy(frame))
    gains = _wording_gains(found, confidence) or [
        "No method was asked beside its guided twin on held-out sets. That guidance keeps more under unseen "
        f"wordings: {TOO_LITTLE} (n\u00a0=\u00a00)."
    ]
    return [*_wording_costs(found, levels, confidence), *gains]


def _wording_costs(found: pd.DataFrame, levels: pd.DataFrame, confidence: float) -> list[str]:
    said = []
    for shots, rows in found[found["contrast"] == "wording"].groupby("shots"):
        part = levels[(levels["shots"] == shots) & (levels["role"] == "held_out")]
        parts = []
        for row in rows.itertuples():
            here = part[part["stage"] == (part["stage"].max() if row.method else 0)]
            here = here[here["method"] == row.method] if row.method else here
            own, other, spread = (float(here[column].mean()) for column in ("own", "mean", "sd"))
            parts.append(
                f"{row.method or 'before training'} {percent(own)} and {percent(other)} (s.d. over wordings "
                f"{100 * spread:.1f}; difference {_covered(row, confidence)})"
            )
        said.append(
            f"{_form(shots)} accuracy on held-out sets under their own wording and under others: "
            f"{_listed(parts)}."
        )
    return said


def _wording_gains(found: pd.DataFrame, confidence: float) -> list[str]:
    said, own = [], found[found["contrast"] == "guided, own"].set_index(["method", "shots"])["mean"]
    for row in found[found["contrast"] == "guided, others"].itertuples():
        answer = TOO_LITTLE if row.wordings < MINIMUM_PAIRS else _answer(row.low, row.high)
        size = f"n\u00a0=\u00a0{row.wordings} wordings and {row.examples} examples of {row.sets} sets"
        said.append(
            f"{_form(row.shots)}, after the last stage, {row.method}{GUIDED_SUFFIX} minus {row.method} under "
            f"wordings that nothing was trained on: {_covered(row, confidence)}, {size}; under the own "
            f"wordings {points(own[row.method, row.shots])}. That guidance keeps more under unseen "
            f"wordings: {answer}{_seeds(row.chains)}."
        )
    return said


def sufficiency_sentences(frame: pd.DataFrame, resamples: int, confidence: float) -> list[str]:
    """What is missing of few-shot accuracy with θ, and what further heads add."""
    found = sufficiency_contrasts(frame, resamples, confidence)
    gaps = found[(found["contrast"] == "gap") & (found["more"] == 0)]
    (gap,) = gaps[gaps["set"] == ""].itertuples()
    by_set = _listed([f"{row.set} {points(row.mean)}" for row in gaps[gaps["set"] != ""].itertuples()])
    answer = {SUPPORTS: DOES_NOT, DOES_NOT: SUPPORTS}.get(_answer(gap.low, gap.high), TOO_LITTLE)
    size = f"n\u00a0=\u00a0{gap.examples} examples of {gap.sets} sets"
    said = [
        f"Before training, few-shot accuracy minus that of zero-shot with θ is {_covered(gap, confidence)}, "
        f"{size} ({by_set}). That θ is all that demonstrations give: {answer}."
    ]
    whole = found[found["set"] == ""]
    added, ranked = (whole[whole["contrast"] == name] for name in ("added", "ranked"))
    if len(added):
        beyond = ranked.set_index("more")["mean"]
        parts = [
            f"{row.more} {_covered(row, confidence)}, or {points(beyond[row.more])} beyond as many at random"
            for row in added.itertuples()
        ]
        answer = _answer(added["low"].max(), added["high"].max())
        said.append(
            f"Further heads, by causal effect, change zero-shot accuracy with θ: the next {_listed(parts)} "
            f"({size}). That heads outside S add to it: {answer}."
        )
    return said


def _answer(low: float, high: float) -> str:
    """What the interval of a difference says of the claim that there is one above zero."""
    return SUPPORTS if low > 0 else DOES_NOT if high < NEGLIGIBLE else TOO_LITTLE


def _covered(row, confidence: float) -> str:
    return (
        f"{points(row.mean)} ({100 * confidence:g}\u00a0% interval {100 * row.low:+z.1f} to "
        f"{100 * row.high:+z.1f})"
    ).replace("-", "−")


def _seeds(chains: int) -> str:
    return (
        "; one pair of chains says nothing about other seeds"
        if chains == 1
        else f" ({chains} pairs of chains)"
    )


def _form(shots: int) -> str:
    return f"{shots}-shot" if shots else "Zero-shot"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
