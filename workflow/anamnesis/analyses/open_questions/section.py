"""The report's section on questions that the papers leave open: with figure, answer and table."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from anamnesis.analyses.open_questions.tables import (
    PREDICTORS,
    gain_correlations,
    mean_gains,
    sufficiency_contrasts,
    wording_contrasts,
)
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.report.builder import Section, Table
from anamnesis.report.findings import above_zero, answer, frame_table, with_interval
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import points
from anamnesis.stats.intervals import MINIMUM_PAIRS

NEGLIGIBLE = 0.05  # a difference whose interval ends below it counts as none
KEPT = "that guidance keeps more under wordings that nothing was trained on"
ALTERNATIVES = {
    "guidance_gain": "Gain by guidance against three measures of a task's simplicity",
    "wordings": "Accuracy under other wordings, one panel per set, zero-shot and few-shot",
    "sufficiency": "Accuracy against the number of heads in the vector, one panel per set",
}

Findings = tuple[list[str], Table]


def _difference(row) -> str:
    return with_interval(row.mean, row.low, row.high, "+.1f", 100)


GAINS = {
    "Method": lambda row: row.method + GUIDED_SUFFIX,
    "Mean gain": lambda row: points(row.gain),
    "Simplicity": lambda row: PREDICTORS[row.predictor],
    "Spearman's ρ": lambda row: with_interval(row.spearman, row.low, row.high),
    "Tasks": lambda row: row.n,
    "Pairs of chains": lambda row: row.pairs,
}
WORDINGS = {
    "Method": lambda row: row.method or "before training",
    "Shots": lambda row: row.shots,
    "Difference": lambda row: DIFFERENCES[row.contrast],
    "Points": _difference,
    "Wordings": lambda row: row.wordings,
    "Examples": lambda row: row.examples,
    "Sets": lambda row: row.sets,
    "Pairs of chains": lambda row: row.chains or "–",
}
DIFFERENCES = {
    "wording": "other wordings − own wording",
    "guided, own": "guided − plain, own wording",
    "guided, others": "guided − plain, other wordings",
}
SUFFICIENCY = {
    "Set": lambda row: row.set or "all",
    "Heads besides S": lambda row: row.more,
    "Difference": lambda row: CONTRASTS[row.contrast],
    "Points": _difference,
    "Examples": lambda row: row.examples,
}
CONTRASTS = {
    "gap": "few-shot − zero-shot with θ",
    "added": "θ with these heads − θ",
    "ranked": "θ with these heads − θ with random heads",
}


def sections(results: AnalysisResults) -> list[Section]:
    """Every question that has a figure, with its answers; and the held-out sets without paraphrases."""
    statistics, held_out = results.config["statistics"], results.config["suite"]["held_out"]
    chance = statistics["bootstrap_resamples"], statistics["confidence"]
    asked: dict[str, Callable[..., Findings]] = {
        "guidance_gain": gains,
        "wordings": wordings,
        "sufficiency": sufficiency,
    }
    pictures = []
    for name in (name for name in asked if name in results.figures):
        answers, table = asked[name](results.frames[name], *chance)
        pictures.append(results.picture(name, ALTERNATIVES[name], answers, [table]))
    bare = [name for name in held_out if name not in set(results.frames["wordings"]["set"])]
    left_out = f"Held-out sets without paraphrases (analyses.paraphrases) are left out: {', '.join(bare)}."
    return [Section("Open questions", paragraphs=[left_out] if bare else [], pictures=pictures)]


def gains(frame: pd.DataFrame, resamples: int, confidence: float) -> Findings:
    """Per guided method: how its gain goes with simplicity, over tasks."""
    means = mean_gains(frame).groupby("method").agg(gain=("gain", "mean"), pairs=("pairs", "max"))
    found = pd.DataFrame(gain_correlations(frame, resamples, confidence)).join(means, on="method")
    few = found["n"] < MINIMUM_PAIRS
    found[["low", "high"]] = found[["low", "high"]].mask(few)  # of so few tasks an interval means nothing
    answers = []
    for method, rows in found.groupby("method", sort=False):
        falls, n = int((rows["high"] < 0).sum()), int(rows["n"].iloc[0])
        claim = f"that the gain of {method}{GUIDED_SUFFIX} is larger for simple tasks"
        too_few = n < MINIMUM_PAIRS
        why = f"n = {n} tasks, fewer than {MINIMUM_PAIRS}" if too_few else f"{falls} of {len(rows)} measures"
        answers.append(answer(claim, None if too_few else bool(falls), why))
    note = "Gain of guided training on the training tasks, and its rank correlation with a task's simplicity."
    return answers, frame_table(found, GAINS, note)


def wordings(frame: pd.DataFrame, resamples: int, confidence: float) -> Findings:
    """What other wordings cost, and whether guidance helps under them."""
    found = wording_contrasts(frame, resamples, confidence)
    answers = []
    for row in found[found["contrast"] == "guided, others"].itertuples():
        holds = above_zero(row.low, row.high, NEGLIGIBLE) if row.wordings >= MINIMUM_PAIRS else None
        why = f"{row.method}, {row.shots}-shot: {row.chains} pair{'s' * (row.chains != 1)} of chains"
        answers.append(answer(KEPT, holds, why))
    note = (
        "Accuracy on held-out sets after the last stage, or before training where the row says so. "
        "Intervals: over wordings and examples."
    )
    return answers or [answer(KEPT, None, "no pair of chains")], frame_table(found, WORDINGS, note)


def sufficiency(frame: pd.DataFrame, resamples: int, confidence: float) -> Findings:
    """What is missing of few-shot accuracy with θ, and what further heads add."""
    found = sufficiency_contrasts(frame, resamples, confidence)
    whole = found[found["set"] == ""]
    gap = whole[(whole["contrast"] == "gap") & (whole["more"] == 0)].iloc[0]
    lacks = above_zero(gap["low"], gap["high"], NEGLIGIBLE)
    answers = [answer("that θ is all that demonstrations give", None if lacks is None else not lacks)]
    added = whole[whole["contrast"] == "added"]
    if len(added):
        holds = above_zero(added["low"].max(), added["high"].max(), NEGLIGIBLE)
        answers.append(answer("that heads outside S add to θ", holds))
    return answers, frame_table(found, SUFFICIENCY, "Before training, with intervals over examples.")
