"""The report's section on what happens inside the models: figures, and what they say in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.analyses.checkpoints import changes, tables
from anamnesis.report.builder import Picture, Section
from anamnesis.report.sentences import percent, points

CAPTIONS = {
    "form_changes": """\
        Change of accuracy from before training to after the last stage, in points, by form of the task
        (figure 3 of arXiv 2406.12227). Bars: mean over chains; points: chains; whiskers: one s.d.""",
    "conditions": """\
        Accuracy in seven conditions (figure 4): (a) to (e) before training, (f) and (g) after the last stage.
        Right: greedy decoding begins with the answer. Vectors are added, or removed, after the layer where
        adding was best on validation examples before training; crosses: a random vector of equal norm there.
        Whiskers: 95 % Wilson interval over examples.""",
    "alignment": """\
        Zero-shot accuracy, and the largest cosine over the layers between the hidden states at the last
        prompt token and the instruction vector of the model before training (figure 5a).""",
    "drift": """\
        Above: cosine of the instruction vector with that before training, beside random sets of as many
        heads (band: one s.d. over the draws). Below: few-shot accuracy, and the same with the heads' outputs
        as they were before training (figure 5b).""",
    "effect_maps": """\
        Mean causal effect of every head after each stage (figure 5c). Outlined: the head set S of the model
        before training; above each map, how many of the model's own strongest heads are in S. Stage 0 is
        measured on the same few prompts, so that its number shows what the sample alone changes.""",
    "recovery": """\
        After the last stage: accuracy when a vector is added to zero-shot prompts after one layer (figure 7).
        Dotted: prompts without intervention. Grey mark: the layer chosen before training. The figure
        vector_recovery of the run itself shows all chains at the layer chosen for its interventions.""",
}
ALTERNATIVES = {
    "form_changes": "Bars of the change of accuracy by form",
    "conditions": "Bars of accuracy in seven conditions, one panel per set",
    "alignment": "Accuracy and similarity by stage, and one against the other",
    "drift": "Similarity of vectors and few-shot accuracy by stage",
    "effect_maps": "Heat maps of causal effects, a row per method and a column per stage",
    "recovery": "Accuracy against layer, a row per method and a column per set",
}


@dataclass(frozen=True, slots=True)
class DynamicsResults:
    """Tables of ``dynamics.tables``: alignment, drift, conditions, heads; ``curves``: accuracy of all chains;
    ``figures``: name -> PNG.
    """

    alignment: pd.DataFrame
    drift: pd.DataFrame
    conditions: pd.DataFrame
    heads: pd.DataFrame
    curves: pd.DataFrame
    figures: Mapping[str, str | Path]


def dynamics_section(results: DynamicsResults) -> Section:
    """All figures of the section, each with its sentences."""
    said = {
        "form_changes": form_sentences(changes.form_changes(results.curves)),
        "conditions": condition_sentences(tables.condition_table(results.conditions)),
        "alignment": alignment_sentences(tables.alignment_table(results.alignment, results.curves)),
        "drift": drift_sentences(tables.drift_table(results.drift, results.conditions)),
        "effect_maps": overlap_sentences(results.heads),
        "recovery": recovery_sentences(tables.recovery_table(results.conditions)),
    }
    pictures = []
    for name, sentences in said.items():
        png = Path(results.figures[name])
        links = {"PDF": png.with_suffix(".pdf"), "PNG": png, "data (CSV)": png.with_suffix(".csv")}
        pictures.append(Picture(png, ALTERNATIVES[name], " ".join(CAPTIONS[name].split()), sentences, links))
    return Section("Inside the models", pictures=pictures)


def form_sentences(frame: pd.DataFrame) -> list[str]:
    """Per method: the mean change of each form on held-out sets."""
    said = []
    for method, data in frame.groupby("method", sort=False):
        mean = data.groupby(["role", "form"])["change"].mean()
        held = " and ".join(
            f"{points(mean['held_out', form])} {form.split(', ')[1]}"
            for form in changes.FORMS[:2]
            if ("held_out", form) in mean
        )
        text = f"{method}: accuracy on held-out sets changed by {held}"
        if ("both_forms", changes.FORMS[2]) in mean:
            both = mean["both_forms"]
            text += (
                f"; on those with both forms, instruction accuracy by {points(both[changes.FORMS[0]])} and "
                f"knowledge accuracy by {points(both[changes.FORMS[2]])}"
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
    found = tables.correlations(frame)
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
    found = tables.overlaps(heads)
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


def recovered(frame: pd.DataFrame) -> pd.DataFrame:
    """Per set of one method: ``before`` (few-shot, before training), ``zero-shot``, ``few-shot``, and
    ``initial``, ``current``, ``random`` at the layer ``chosen`` before training.
    """
    at = frame[(frame["layer"] == frame["chosen"]) | (frame["layer"] == -1)]
    label = at["vector"].where(at["vector"] != "", at["condition"])
    table = at.assign(label=label).pivot(index=["set", "chosen"], columns="label", values="accuracy")
    return table.reset_index()


def number(value: float) -> str:
    """A correlation with two decimals and a real minus sign."""
    return "–" if pd.isna(value) else f"{value:.2f}".replace("-", "−")
