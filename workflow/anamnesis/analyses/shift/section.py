"""The report's section on the shift on the new task."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.shift.tables import SHIFTS, shift_correlations
from anamnesis.report.builder import Section
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import number, points

ALTERNATIVE = "Accuracy lost on held-out sets against the divergence on the new task, two panels"
CLAIM = "that the shift on the new task predicts forgetting"


def sections(results: AnalysisResults) -> list[Section]:
    """The figure, with what the table ``shift`` says."""
    statistics = results.config["statistics"]
    chance = statistics["bootstrap_resamples"], statistics["confidence"]
    sentences = shift_sentences(results.frames["shift"], *chance)
    return [Section("Shift on the new task", pictures=[results.picture("shift", ALTERNATIVE, sentences)])]


def shift_sentences(table: pd.DataFrame, resamples: int, confidence: float) -> list[str]:
    """Per method the shift after the last stage and what was lost; then the correlations, and the answer."""
    last = table[table["stage"] == table["stage"].max()]
    said = [
        f"{method}, after the last stage: KL(M_0 || M_t) on the task just learnt is "
        f"{rows['prompt'].mean():.3g} nats at the last prompt token and {rows['answer'].mean():.3g} over the "
        f"answer's tokens (n = {len(rows)} chains); held-out sets have changed by "
        f"{points(-rows['forgotten'].mean())}."
        for method, rows in last.groupby("method", sort=False)
    ]
    found = shift_correlations(table, resamples, confidence)
    parts = [f"{SHIFTS[row.kind]} {_correlation(row)}" for row in found.itertuples()]
    return [
        *said,
        f"Over n = {found['n'].max()} chains and stages the shift's rank correlation with forgetting is "
        f"{' and '.join(parts)}; stages of one chain are not independent. {_answer(found)}",
    ]


def _correlation(row) -> str:
    if pd.isna(row.spearman):
        return "not defined"
    return f"{number(row.spearman)} ({number(row.low)} to {number(row.high)})"


def _answer(found: pd.DataFrame) -> str:
    if found["spearman"].isna().any():
        return f"Too little data to say {CLAIM}."
    if (found["low"] > 0).all():
        return f"This supports {CLAIM}."
    if (found["high"] < 0).any():
        return f"This does not support {CLAIM}."
    return f"Too little data to say {CLAIM}: an interval includes 0."
