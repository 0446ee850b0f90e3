"""The report's section on instruction vectors: the heads they are made of, and what adding them does."""

from __future__ import annotations

import math

import pandas as pd

from anamnesis.report import charts, run_facts
from anamnesis.report.builder import Section, Table
from anamnesis.report.head_chart import head_chart
from anamnesis.report.results import ExperimentResults
from anamnesis.report.sentences import counted, differs, percent, points
from anamnesis.stats.chart_tables import head_intervals, intervention_intervals
from anamnesis.stats.layers import chosen_layers

HEADS = "Heat map of causal effects, layer by head"
INTERVENTIONS = "Accuracy against layer of intervention, one panel per set"


def vectors_section(results: ExperimentResults) -> Section:
    """The map of heads and the interventions, each with its numbers."""
    unit = run_facts.value_at(results.config, "vectors.rank_by") or "probability"
    map_of_heads = None
    if results.task_effects is not None:
        found = head_intervals(results.heads, results.confidence)
        map_of_heads = head_chart(found, results.task_effects, "task", HEADS, str(unit))
    pictures = results.picture("head_effects", HEADS, heads_sentences(results.heads, str(unit)), map_of_heads)
    tables = []
    if results.interventions is not None and len(results.interventions):
        said = interventions_sentences(results.interventions)
        found = intervention_intervals(results.interventions, results.confidence)
        chart = charts.intervention_chart(found, INTERVENTIONS)
        pictures += results.picture("interventions", INTERVENTIONS, said, chart)
        tables.append(_interventions_table(results.interventions))
    return Section("Instruction vectors", tables=tables, pictures=pictures)


def heads_sentences(heads: pd.DataFrame, unit: str = "probability") -> list[str]:
    """The strongest head with its error, and how much of the positive effect the selected heads hold."""
    top = heads.sort_values("rank").iloc[0]
    selected = heads[heads["selected"].astype(bool)]
    what = "probability" if unit == "probability" else "log-probability"
    sentences = [
        f"The strongest head is head {int(top['head'])} of layer {int(top['layer'])}: patching it changes "
        f"the {what} of the right answer by {top['effect']:+.3f} (s.e. {top['standard_error']:.3f}, "
        f"{int(top['n_prompts'])} prompts, {int(top['n_tasks'])} tasks).".replace("-0", "−0")
    ]
    total = float(heads["effect"].clip(lower=0).sum())
    if len(selected) and total > 0:
        share = float(selected["effect"].clip(lower=0).sum()) / total
        unsure = int((selected["effect"] < 2 * selected["standard_error"]).sum())
        doubt = "all lie" if unsure == 0 else f"{len(selected) - unsure} of them lie"
        sentences.append(
            f"The {len(selected)} selected of {len(heads)} heads hold {percent(share)} of the sum of all "
            f"positive effects; {doubt} at least two standard errors above zero."
        )
    return sentences


def intervention_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Per set: what adding and removing the vector does to accuracy on test examples, after the layers chosen
    on validation examples (``stats.layers``).

    Returns a frame ``set, none, layer, add, random, few_shot, removal_layer, remove, n`` (fractions, NaN
    where a condition was not run). ``random`` is at the layer of ``add``. A vector is added to zero-shot
    prompts and removed from few-shot prompts.
    """
    layers, removals = chosen_layers(frame), chosen_layers(frame, "remove")
    rows = []
    for name, data in frame[frame["split"] == "test"].groupby("set", sort=False):
        layer, removal = layers.get(name), removals.get(name)
        rows.append(
            {
                "set": name,
                "none": data.loc[data["condition"] == "none", "accuracy"].mean(),
                "layer": layer,
                "add": _by_layer(data, "add", "zero-shot").get(layer, math.nan),
                "random": _by_layer(data, "random", "zero-shot").get(layer, math.nan),
                "few_shot": data.loc[data["condition"] == "few-shot", "accuracy"].mean(),
                "removal_layer": removal,
                "remove": _by_layer(data, "remove", "few-shot").get(removal, math.nan),
                "n": int(data["n"].max()),
            }
        )
    return pd.DataFrame(rows).astype({"layer": "Int64", "removal_layer": "Int64"})


def _by_layer(data: pd.DataFrame, condition: str, base: str) -> pd.Series:
    part = data[(data["condition"] == condition) & (data["base"] == base)]
    return part.groupby("layer")["accuracy"].mean()


def interventions_sentences(frame: pd.DataFrame, lift: float = 0.3) -> list[str]:
    """On how many sets adding the vector lifts zero-shot accuracy by ``lift``, on which one most, and what a
    random vector does; all at the layers of :func:`intervention_rows`.
    """
    rows = intervention_rows(frame)
    gains = (rows["add"] - rows["none"]).dropna()
    if gains.empty:
        return ["No vector was added to a zero-shot prompt."]
    count = int((gains >= lift - 1e-9).sum())  # as 0.5 - 0.2 falls short of 0.3 by a rounding error
    best = rows.loc[gains.idxmax()]
    largest = (
        f"The largest gain is on {best['set']}: {percent(best['none'])} without, {percent(best['add'])} "
        f"with the vector after layer {best['layer']} (n\u00a0=\u00a0{best['n']})."
    )
    sentences = [
        f"Adding the vector raises zero-shot accuracy by {100 * lift:g} points or more on {count} of "
        f"{counted(len(gains), 'set')}. The layer of each set is chosen on validation examples, accuracy is "
        "measured on test examples.",
        largest if gains.max() > 0 and differs(gains.max()) else "It raises accuracy on no set.",
    ]
    chance = (rows["random"] - rows["none"]).dropna()
    if len(chance):
        sentences.append(
            "A random vector of equal norm at the same layers changes accuracy by "
            f"{points(float(chance.min()))} to {points(float(chance.max()))}."
        )
    return sentences


def _interventions_table(frame: pd.DataFrame) -> Table:
    header = [
        "Set",
        "Zero-shot",
        "+ vector (layer)",
        "+ random, same layer",
        "Few-shot",
        "− vector (layer)",
        "n",
    ]
    rows = [
        [
            row.set,
            percent(row.none),
            _with_layer(row.add, row.layer),
            percent(row.random),
            percent(row.few_shot),
            _with_layer(row.remove, row.removal_layer),
            row.n,
        ]
        for row in intervention_rows(frame).itertuples()
    ]
    caption = (
        "Accuracy on test examples. The vector is added after the layer where that helped most on validation "
        "examples, and removed after the layer where that harmed most on them."
    )
    return Table(header, rows, caption)


def _with_layer(value: float, layer: object) -> str:
    return "–" if pd.isna(value) or pd.isna(layer) else f"{percent(value)} ({layer})"
