"""The report's sections on what happens inside the models: figures, their numbers, the paper's claims."""

from __future__ import annotations

from typing import Any

import pandas as pd

from anamnesis.analyses.checkpoints.changes import form_changes
from anamnesis.analyses.checkpoints.claims import claims_section
from anamnesis.analyses.checkpoints.tables import (
    CONDITIONS,
    alignment_table,
    condition_table,
    correlations,
    drift_table,
    overlaps,
    recovered,
    recovery_table,
)
from anamnesis.report.builder import Section, Table
from anamnesis.report.findings import frame_table
from anamnesis.report.head_chart import head_chart
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import number, percent, points
from anamnesis.stats.chart_tables import head_intervals, stage_effects

ALTERNATIVES = {
    "form_changes": "Bars of the change of accuracy by form",
    "conditions": "Bars of accuracy in seven conditions, one panel per set",
    "alignment": "Accuracy and similarity by stage, and one against the other",
    "drift": "Similarity of vectors and few-shot accuracy by stage",
    "effect_maps": "Heat maps of causal effects, a row per method and a column per stage",
    "recovery": "Accuracy against layer, a row per method and a column per set",
}
ROLES = {"train_task": "training tasks", "held_out": "held out", "both_forms": "held out, both forms"}
CHANGES = {
    "Method": lambda row: row.method,
    "Sets": lambda row: ROLES[row.role],
    "Form": lambda row: row.form,
    "Before": lambda row: percent(row.before),
    "After": lambda row: percent(row.after),
    "Change": lambda row: points(row.change),
    "Chains": lambda row: row.chains,
}
LEVELS = {
    "Condition": lambda row: f"({row.letter}) {CONDITIONS[row.letter]}",
    "Method": lambda row: row.method or "before training",
    "Accuracy": lambda row: percent(row.accuracy),
    "Sets": lambda row: row.sets,
}
ALIKE = {
    "Pearson's r": lambda row: number(row.pearson),
    "Spearman's ρ": lambda row: number(row.spearman),
    "Pearson's r within sets": lambda row: number(row.within),
    "Sets and stages": lambda row: row.n,
}
DRIFT = {
    "Method": lambda row: row.method,
    "Cosine of θ": lambda row: f"{row.selected:.2f}",
    "Cosine, random heads": lambda row: f"{row.random:.2f}",
    "Few-shot": lambda row: percent(row.few_shot),
    "Outputs put back": lambda row: points(row.restored - row.few_shot),
    "Of the strongest heads in S": lambda row: f"{row.first:.3g} → {row.last:.3g} of {row.top}",
}
RECOVERED = {
    "Method": lambda row: row.method,
    "Set": lambda row: row.set,
    "Few-shot before": lambda row: percent(row.before),
    "Few-shot": lambda row: percent(row.few_shot),
    "Zero-shot": lambda row: percent(row.zero_shot),
    "+ θ before training": lambda row: percent(row.initial),
    "+ own θ": lambda row: percent(row.current),
    "Layer": lambda row: row.chosen,
}


def sections(results: AnalysisResults) -> list[Section]:
    """All figures of the analysis with their numbers, and the paper's claims."""
    numbers = tables(results)
    charts = {"effect_maps": stage_chart(results)}
    pictures = [
        results.picture(
            name, alternative, tables=[numbers[name]] if name in numbers else [], chart=charts.get(name)
        )
        for name, alternative in ALTERNATIVES.items()
    ]
    return [Section("Inside the models", pictures=pictures), claims_section(results)]


def stage_chart(results: AnalysisResults) -> dict | None:
    """The heads at the first stage that was looked at; the effect of a chosen one after each stage."""
    heads, unit = results.frames["heads"], results.config["vectors"]["rank_by"]
    first = heads[(heads["stage"] == heads["stage"].min()) & (heads["method"] == heads["method"].iloc[0])]
    first = first.drop_duplicates(["layer", "head"])
    shown = head_intervals(first.assign(selected=first["initial"]))
    return head_chart(shown, stage_effects(heads), "stage", ALTERNATIVES["effect_maps"], unit)


def tables(results: AnalysisResults) -> dict[str, Table]:
    """Figure -> its numbers. ``results``: with the tables alignment, drift, conditions and heads of
    ``checkpoints.tables``.
    """
    frames, curves = results.frames, results.curves
    alike = correlations(alignment_table(frames["alignment"], curves))
    return {
        "form_changes": frame_table(
            change_means(form_changes(curves)), CHANGES, "Accuracy by form, mean over chains and sets."
        ),
        "conditions": frame_table(
            condition_means(condition_table(frames["conditions"])), LEVELS,
            "The instruction vector θ added and removed, mean over sets.",
        ),
        "alignment": frame_table(
            pd.DataFrame([alike]), ALIKE,
            "Zero-shot accuracy and similarity to θ. Points of one chain are not independent: no interval.",
        ),
        "drift": frame_table(
            last_stage(drift_table(frames["drift"], frames["conditions"]), overlaps(frames["heads"])), DRIFT,
            "After the last stage, mean over sets: θ against θ before training; the heads' outputs put back.",
        ),
        "recovery": frame_table(
            recovery_means(recovery_table(frames["conditions"])), RECOVERED,
            "After the last stage: what vectors give back, at the layer chosen before training.", folded=True,
        ),
    }  # fmt: skip


def change_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Per method, role and form: means of ``before, after, change`` over the ``chains``."""
    values = {name: (name, "mean") for name in ("before", "after", "change")}
    grouped = frame.groupby(["method", "role", "form"], sort=False)
    return grouped.agg(**values, chains=("change", "size")).reset_index()


def condition_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Per condition and method: mean accuracy over ``sets``."""
    grouped = frame.groupby(["letter", "method"])["accuracy"]
    return grouped.agg(accuracy="mean", sets="size").reset_index()


def last_stage(drift: pd.DataFrame, shared: pd.DataFrame) -> pd.DataFrame:
    """Per method after its last stage: means over sets and chains, and how many of its ``top`` heads are in
    S, before training (``first``) and after it (``last``).
    """
    last = drift[drift["stage"] == drift["stage"].max()]
    means = last.groupby("method", sort=False)[["selected", "random", "few_shot", "restored"]].mean()
    counted = shared.groupby(["method", "stage"])["shared"].mean().groupby("method").agg(["first", "last"])
    return means.join(counted).assign(top=int(shared["top"].max())).reset_index()


def recovery_means(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per method and set, those that lost most first."""
    parts: list[Any] = [
        recovered(rows).assign(method=name) for name, rows in frame.groupby("method", sort=False)
    ]
    table = pd.concat(parts).rename(columns=lambda name: name.replace("-", "_"))
    return table.iloc[(table["few_shot"] - table["before"]).argsort(kind="stable")]
