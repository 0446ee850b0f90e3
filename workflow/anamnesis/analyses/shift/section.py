"""The report's section on the shift on the new task."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.shift.tables import SHIFTS, shift_correlations
from anamnesis.report.builder import Section
from anamnesis.report.findings import answer, frame_table, with_interval
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import points

ALTERNATIVE = "Accuracy lost on held-out sets against the divergence on the new task, two panels"
CLAIM = "that the shift on the new task predicts forgetting"
LAST = {
    "Method": lambda row: row.method,
    "Last prompt token": lambda row: f"{row.prompt:.3g}",
    "Answer": lambda row: f"{row.answer:.3g}",
    "Held-out sets": lambda row: points(-row.forgotten),
    "Chains": lambda row: row.chains,
}
CORRELATIONS = {
    "Shift": lambda row: SHIFTS[row.kind],
    "Spearman's ρ": lambda row: with_interval(row.spearman, row.low, row.high),
    "Chains and stages": lambda row: row.n,
}


def sections(results: AnalysisResults) -> list[Section]:
    """The figure with an answer; methods side by side, and the correlation with forgetting."""
    statistics, table = results.config["statistics"], results.frames["shift"]
    found = shift_correlations(table, statistics["bootstrap_resamples"], statistics["confidence"])
    last = table[table["stage"] == table["stage"].max()].groupby("method", sort=False)
    means = last.agg(
        prompt=("prompt", "mean"), answer=("answer", "mean"), forgotten=("forgotten", "mean"),
        chains=("prompt", "size"),
    )  # fmt: skip
    caption = (
        "After the last stage: KL(M_0 || M_t) on the task just learnt, in nats, and what held-out sets lost."
    )
    too_narrow = "Stages of one chain are not independent, so the intervals are too narrow."
    tables = [
        frame_table(means.reset_index(), LAST, caption),
        frame_table(found, CORRELATIONS, f"Correlation of the shift with forgetting. {too_narrow}"),
    ]
    picture = results.picture("shift", ALTERNATIVE, [answer(CLAIM, predicts(found))], tables)
    return [Section("Shift on the new task", pictures=[picture])]


def predicts(correlations: pd.DataFrame) -> bool | None:
    """True where both intervals are above zero, False where one is below it."""
    if (correlations["low"] > 0).all():
        return True
    return False if (correlations["high"] < 0).any() else None
