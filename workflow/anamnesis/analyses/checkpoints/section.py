"""The report's section on what happens inside the models: figures, and what they say in numbers."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.checkpoints.changes import FORMS, form_changes
from anamnesis.analyses.checkpoints.claims import claims_section
from anamnesis.analyses.checkpoints.tables import (
    alignment_table,
    condition_table,
    correlations,
    drift_table,
    overlaps,
    recovered,
    recovery_table,
)
from anamnesis.report.builder import Section
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import number, percent, points

ALTERNATIVES = {
    "form_changes": "Bars of the change of accuracy by form",
    "conditions": "Bars of accuracy in seven conditions, one panel per set",
    "alignment": "Accuracy and similarity by stage, and one against the other",
    "drift": "Similarity of vectors and few-shot accuracy by stage",
    "effect_maps": "Heat maps of causal effects, a row per method and a column per stage",
    "recovery": "Accuracy against layer, a row per method and a column per set",
}


def sections(results: AnalysisResults) -> list[Section]:
    """All figures of the analysis with their sentences, and the paper's claims."""
    return [figures_section(results), claims_section(results)]


def figures_section(results: AnalysisResults) -> Section:
    """``results``: with the tables alignment, drift, conditions and heads of ``checkpoints.tables``."""
    frames, curves = results.frames, results.curves
    said = {
        "form_changes": form_sentences(form_changes(curves)),
        "conditions": condition_sentences(condition_table(frames["conditions"])),
        "alignment": alignment_sentences(alignment_table(frames["alignment"], curves)),
        "drift": drift_sentences(drift_table(frames["drift"], frames["conditions"])),
        "effect_maps": overlap_sentences(frames["heads"]),
        "recovery": recovery_sentences(recovery_table(frames["conditions"])),
    }
    pictures = [results.picture(name, ALTERNATIVES[name], sentences) for name, sentences in said.items()]
    return Section("Inside the models", pictures=pictures)


def form_sentences(frame: pd.DataFrame) -> list[str]:
    """Per method: the mean change of each form on held-out sets."""
    said = []
    for method, data in frame.groupby("method", sort=False):
        mean = data.groupby(["role", "form"])["change"].mean()
        held = " and ".join(
            f"{points(mean['held_out', form])} {form.split(', ')[1]}"
            for form in FORMS[:2]
            if ("held_out", form) in mean
        )
        text = f"{method}: accuracy on held-out sets changed by {held}"
        if ("both_forms", FORMS[2]) in mean:
            both = mean["both_forms"]
            text += (
                f"; on those with both forms, instruction accuracy by {points(both[FORMS[0]])} and "
                f"knowledge accuracy by {points(both[FORMS[2]])}"
            )
        said.append(text + f" (mean over {data.groupby(['order', 'seed']).ngroups} chains).")
    return said


def condition_sentences(frame: pd.DataFrame) -> list[str]:
    """Means over sets of what adding and removing the vector does, before and after training."""
    mean = frame.groupby(["letter", "method"])["accuracy"].mean()
    sets, before = frame["set"].nunique(), mean.xs("", level="method")
    said = [
        f"Before training, on average over {sets} sets: zero-shot {percent(before['a'])}, with "
        f"demonstrations in the place of the instruction {percent(before['b'])}, with the vector added "
        f"{percent(before['c'])}; few-shot {percent(before['d'])}, with the vector removed "
        f"{percent(before['e'])}."
    ]
    for method in (m for m in frame["method"].unique() if m):
        plain, added = mean["f", method], mean["g", method]
        said.append(
            f"{method}, after the last stage: zero-shot {percent(plain)}, with the vector of the model "
            f"before training {percent(added)} ({points(added - plain)})."
        )
    return said


def alignment_sentences(frame: pd.DataFrame) -> list[str]:
    """The correlation of accuracy and similarity."""
    found = correlations(frame)
    return [
        f"Over all {found['n']} points of sets and stages, zero-shot accuracy and similarity have a Pearson "
        f"correlation of {number(found['pearson'])} (Spearman {number(found['spearman'])}); of the "
        f"deviations from each set's mean it is {number(found['within'])}. Points of one chain are not "
        "independent, so no interval is given."
    ]


def drift_sentences(frame: pd.DataFrame) -> list[str]:
    """After the last stage: similarity of the vector beside random heads; what putting heads back does."""
    last = frame[frame["stage"] == frame["stage"].max()]
    said = []
    for method, data in last.groupby("method", sort=False):
        mean = data[["selected", "random", "few_shot", "restored"]].mean()
        said.append(
            f"{method}, after the last stage: the vector's cosine with that before training is "
            f"{mean['selected']:.2f}, that of random head sets {mean['random']:.2f}; with the heads' outputs "
            f"as before training, few-shot accuracy of {percent(mean['few_shot'])} changes by "
            f"{points(mean['restored'] - mean['few_shot'])} (means over {data['set'].nunique()} sets)."
        )
    return said


def overlap_sentences(heads: pd.DataFrame) -> list[str]:
    """How many of the strongest heads are in S, before training and after the last stage."""
    found = overlaps(heads)
    top, mean = int(found["top"].max()), found.groupby(["method", "stage"], sort=False)["shared"].mean()
    said = []
    for method in found["method"].unique():
        shared = mean[method]
        said.append(
            f"{method}: of the {top} strongest heads, {shared.iloc[0]:.3g} are in S before training and "
            f"{shared.iloc[-1]:.3g} after the last stage."
        )
    return said


def recovery_sentences(frame: pd.DataFrame) -> list[str]:
    """Per method, on the set whose few-shot accuracy has fallen most: what both vectors give back at the
    layer chosen before training.
    """
    said = []
    for method, data in frame.groupby("method", sort=False):
        rows = recovered(data)
        worst = rows.loc[(rows["few-shot"] - rows["before"]).idxmin()]
        helped = int((rows["initial"] > rows["zero-shot"]).sum())
        said.append(
            f"{method}: few-shot accuracy has changed most for the worse on {worst['set']}, from "
            f"{percent(worst['before'])} to {percent(worst['few-shot'])}; zero-shot it has "
            f"{percent(worst['zero-shot'])}, with the vector of the model before training "
            f"{percent(worst['initial'])} and with its own {percent(worst['current'])} (after layer "
            f"{int(worst['chosen'])}). The former raises zero-shot accuracy on {helped} of {len(rows)} sets."
        )
    return said
