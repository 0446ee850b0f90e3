"""The traces of all checkpoints as tidy tables, and the tables that the figures show. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from anamnesis.analyses.measured import PLACE, labelled
from anamnesis.stats.layers import chosen_layers
from anamnesis.vectors.ranking import rank_heads

CONDITIONS = {
    "a": "zero-shot",
    "b": "demonstrations, no instruction",
    "c": "zero-shot + θ",
    "d": "few-shot",
    "e": "few-shot − θ",
    "f": "fine-tuned, zero-shot",
    "g": "fine-tuned, zero-shot + θ",
}
"""The conditions of figure 4 by their letters."""


def tabulate(
    alignment: Sequence[pd.DataFrame],
    drift: Sequence[pd.DataFrame],
    conditions: Sequence[pd.DataFrame],
    effects: Sequence[pd.DataFrame],
    initial: pd.DataFrame,
    places: Sequence[Mapping],
    rank_by: str,
) -> dict[str, Any]:
    """The tables of all ``places``, of which the others are the traces. ``initial``: the ranking of heads in
    the model before training.
    """
    parts = {"alignment": alignment, "drift": drift, "conditions": conditions}
    tables = {f"all_{name}": labelled(frames, places) for name, frames in parts.items()}
    heads = heads_by_stage(effects, places, initial, rank_by)
    return {**tables, "all_heads": heads, "facts": {"places": len(places)}}


def heads_by_stage(
    effects: Sequence[pd.DataFrame], places: Sequence[Mapping], initial: pd.DataFrame, rank_by: str
) -> pd.DataFrame:
    """The ranking of all heads at each place (``vectors.ranking.rank_heads`` over the sets of ``effects``),
    with as many selected as ``initial`` has, and ``initial``: whether a head is of the set the vectors are
    made of.

    ``initial``: the ranking of the model before training, columns ``layer, head, selected``.
    """
    chosen = initial.loc[initial.selected, ["layer", "head"]]
    found = []
    for frame in effects:
        ranked = rank_heads(dict(list(frame.groupby("set"))), rank_by, len(chosen))
        found.append(ranked.merge(chosen.assign(initial=True), "left", ["layer", "head"]))
    table = labelled(found, places)
    return table.assign(initial=table["initial"].eq(True))


def overlaps(heads: pd.DataFrame) -> pd.DataFrame:
    """Per place, how many of its own top heads are of the initial set: ``shared`` of ``top``."""
    shared = heads.assign(shared=heads["selected"] & heads["initial"]).groupby(PLACE, sort=False)
    return shared.agg(shared=("shared", "sum"), top=("selected", "sum")).reset_index()


def condition_table(conditions: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Figure 4: ``set, letter, condition, method, layer, accuracy, low, high, n``.

    (a) to (e) are of the model before training, (f) and (g) of each method after its last stage, all chains
    together; ``low`` to ``high`` is the Wilson interval over the ``n`` answers, ``random`` the accuracy with
    a random vector of equal norm in the place of θ. In (g) θ is that of the model before training; (c), (e)
    and (g) use one layer (``stats.layers.chosen_layers``).
    """
    test = conditions[conditions["split"] == "test"]
    before = test[test["stage"] == 0].drop_duplicates(["set", "condition", "vector", "layer"])
    after = test[test["stage"] == test["stage"].max()]
    rows = []
    for name, layer in chosen_layers(conditions).items():
        for letter, data, condition in (
            ("a", before, "zero-shot"), ("b", before, "demonstrations"), ("c", before, "add"),
            ("d", before, "few-shot"), ("e", before, "remove"), ("f", after, "zero-shot"),
            ("g", after, "add"),
        ):  # fmt: skip
            part = data[(data["set"] == name) & (data["condition"] == condition)]
            part = part[part["layer"].isin([-1, layer])]
            methods = part.groupby("method", sort=False) if letter in "fg" else [("", part)]
            rows += [_pooled(name, letter, method, group, confidence) for method, group in methods]
    return pd.DataFrame(rows)


def _pooled(name: str, letter: str, method: str, group: pd.DataFrame, confidence: float) -> dict:
    random, group = group[group["vector"] == "random"], group[group["vector"].isin(["", "initial"])]
    n = int(group["n"].sum())
    right = round(float((group["accuracy"] * group["n"]).sum()))
    interval = stats.binomtest(right, n).proportion_ci(confidence, "wilson")
    return {
        "set": name, "letter": letter, "condition": CONDITIONS[letter], "method": method,
        "layer": int(group["layer"].iloc[0]), "accuracy": right / n, "low": float(interval.low),
        "high": float(interval.high), "random": float(random["accuracy"].mean()), "n": n,
    }  # fmt: skip


def alignment_table(alignment: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Figure 5a: per place and set, ``similarity`` (largest mean cosine over the layers, with θ of the model
    before training), the ``layer`` it is found after, ``current`` (the same with θ of the model at hand) and
    zero-shot ``accuracy``.

    ``curves``: accuracy of all chains (``stats.summary.curves_frame``).
    """
    keys = [*PLACE, "set"]
    first = alignment[alignment["vector"] == "initial"]
    best = first.loc[first.groupby(keys, sort=False)["cosine"].idxmax()]
    table = best.rename(columns={"cosine": "similarity"})[[*keys, "similarity", "layer"]]
    own = alignment[alignment["vector"] == "current"].groupby(keys)["cosine"].max().rename("current")
    table = table.merge(own.reset_index(), "left", keys)
    table["current"] = table["current"].fillna(table["similarity"])  # before training they are the same
    scored = curves[(curves["form"] == "instruction") & (curves["shots"] == 0)]
    return table.merge(scored[[*keys, "value"]].rename(columns={"value": "accuracy"}), "inner", keys)


def correlations(table: pd.DataFrame, x: str = "similarity", y: str = "accuracy") -> dict[str, float]:
    """``pearson`` and ``spearman`` over all points, ``within`` (Pearson of the deviations from each set's
    mean), and ``n``. The model before training counts once. NaN where one of the two does not vary.
    """
    points = table.drop_duplicates(["set", "stage", x, y]) if len(table) else table
    centred = points[[x, y]] - points.groupby("set")[[x, y]].transform("mean")
    return {
        "pearson": _correlation(stats.pearsonr, points[x], points[y]),
        "spearman": _correlation(stats.spearmanr, points[x], points[y]),
        "within": _correlation(stats.pearsonr, centred[x], centred[y]),
        "n": len(points),
    }


def _correlation(measure, x: pd.Series, y: pd.Series) -> float:
    if len(x) < 3 or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return float("nan")
    return float(measure(x, y).statistic)


def drift_table(drift: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Figure 5b: per place and set, ``selected`` (cosine of θ with that before training), ``random`` and
    ``random_sd`` (mean and s.d. of the random head sets' over the ``draws``), ``few_shot`` accuracy and
    ``restored``, with the heads' outputs before training put back; ``n`` examples.
    """
    keys = [*PLACE, "set"]
    chosen = drift[drift["heads"] == "selected"].rename(columns={"cosine": "selected"})[[*keys, "selected"]]
    spread = drift[drift["heads"] == "random"].groupby(keys)["cosine"].agg(["mean", "std", "count"])
    spread.columns = ["random", "random_sd", "draws"]
    test = conditions[(conditions["split"] == "test")]
    answers = test[test["condition"].isin(["few-shot", "restored"])]
    scored = answers.pivot(index=keys, columns="condition", values="accuracy")
    scored.columns = [name.replace("-", "_") for name in scored.columns]
    scored = scored.join(answers.groupby(keys)["n"].first())
    return chosen.merge(spread.reset_index(), "left", keys).merge(scored.reset_index(), "left", keys)


def recovery_table(conditions: pd.DataFrame) -> pd.DataFrame:
    """Figure 7: after the last stage, accuracy zero-shot, few-shot and with a vector added after each layer,
    and few-shot before training ("before"): ``set, method, condition, vector, layer, accuracy, n, chosen``,
    all chains of a method together; ``chosen``: the layer picked on validation examples before training.
    """
    test = conditions[conditions["split"] == "test"]
    last = test[test["stage"] == test["stage"].max()]
    first = test[(test["stage"] == 0) & (test["condition"] == "few-shot")].assign(condition="before")
    last = pd.concat([last[last["condition"].isin(["zero-shot", "few-shot", "add"])], first])
    keys = ["set", "method", "condition", "vector", "layer"]
    found = last.groupby(keys, sort=False).agg(accuracy=("accuracy", "mean"), n=("n", "sum")).reset_index()
    return found.assign(chosen=found["set"].map(chosen_layers(conditions)))


def recovered(frame: pd.DataFrame) -> pd.DataFrame:
    """Per set of one method: ``before`` (few-shot, before training), ``zero-shot``, ``few-shot``, and
    ``initial``, ``current``, ``random`` at the layer ``chosen`` before training.
    """
    at = frame[(frame["layer"] == frame["chosen"]) | (frame["layer"] == -1)]
    label = at["vector"].where(at["vector"] != "", at["condition"])
    table = at.assign(label=label).pivot(index=["set", "chosen"], columns="label", values="accuracy")
    return table.reset_index()
