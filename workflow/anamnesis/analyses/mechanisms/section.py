"""The report's section on the mechanisms of forgetting: the measures of every method, and five figures."""

from __future__ import annotations

from anamnesis.analyses.mechanisms.claims import tabled
from anamnesis.report.builder import Section, Table
from anamnesis.report.results import AnalysisResults

ALTERNATIVES = {
    "interference": "Gradient cosine and conflicting probes along the stages, by matrix and layer",
    "drift": "Similarity and rotation of representations by layer",
    "disruption": "Share of changed heads by depth and by cut-off",
    "landscape": "Top eigenvalue and trace by stage, and a slice of the loss",
    "predictors": "Loss taken by a stage against what may predict it, one panel per predictor",
}


def sections(results: AnalysisResults) -> list[Section]:
    """The tables comparison, predictors and claims, and the figures."""
    pictures = [results.picture(f"mechanisms_{name}", text) for name, text in ALTERNATIVES.items()]
    frames = results.frames
    shown = tabled(frames["comparison"], frames["predictors"], frames["claims"])
    texts = [Table(t.header, t.rows, f"{t.title}. {t.note}", kind="text") for t in shown]
    return [Section("Mechanisms of forgetting", tables=texts, pictures=pictures)]
