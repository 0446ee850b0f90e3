"""What the report's interactive charts show when one points at them: each value with its interval and n."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from anamnesis.stats.intervals import proportion_interval, student_interval
from anamnesis.stats.summary import BASELINE

LEVELS = ["hp", "ip", "knowledge", "op"]


def curve_means(curves: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The mean accuracy over the seeds of a method, of each order, set, form, number of shots and stage.

    ``curves``: ``stats.summary.curves_frame``. Returns ``method, order, set, role, form, shots, stage,
    trained_task, mean, low, high, chains, questions``; one seed has no interval (NaN).
    """
    keys = ["method", "order", "set", "role", "form", "shots", "stage", "trained_task"]
    groups = curves.groupby(keys, sort=False, dropna=False)
    found = groups["value"].agg(["mean", "std", "count"]).assign(questions=groups["n"].max()).reset_index()
    found["low"], found["high"] = student_interval(
        found["mean"], found.pop("std"), found["count"], confidence
    )
    return found.rename(columns={"count": "chains"})


def level_means(measures: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Held-out, knowledge and training-task accuracy of every method at the end, over its chains.

    ``measures``: ``stats.summary.chain_measures``. Returns ``measure, method, mean, low, high, chains,
    before``: the last is the model before training's. Measures that no method has are left out.
    """
    long = measures.melt("method", LEVELS, "measure", "value").dropna(subset="value")
    before = long[long["method"] == BASELINE].groupby("measure")["value"].mean()
    groups = long[long["method"] != BASELINE].groupby(["measure", "method"], sort=False)["value"]
    found = groups.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "chains"})
    found["low"], found["high"] = student_interval(
        found["mean"], found.pop("std"), found["chains"], confidence
    )
    return found.assign(before=found["measure"].map(before))


def intervention_intervals(interventions: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Test accuracy of every set, condition and layer with the interval of a proportion, ``low`` to ``high``.

    ``interventions``: as the workflow writes them. Rows without a vector (layer -1) are repeated at every
    layer of their set.
    """
    rows = interventions[interventions["split"] == "test"]
    layers = rows.loc[rows["layer"] >= 0, ["set", "layer"]].drop_duplicates()
    still = rows[rows["layer"] < 0].drop(columns="layer").merge(layers, "left", "set")
    found = pd.concat([still[rows.columns], rows[rows["layer"] >= 0]], ignore_index=True)
    low, high = proportion_interval(found["accuracy"], found["n"], confidence)
    return found.assign(low=low, high=high)


def head_intervals(heads: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The ranking of heads with the interval of each mean effect over tasks, ``low`` to ``high``."""
    degrees = heads["n_prompts"] - heads["n_tasks"] + 1  # a mean is taken away in every task
    low, high = student_interval(heads["effect"], heads["standard_error"], degrees, confidence, error=True)
    return heads.assign(low=low, high=high)


def stage_effects(heads: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The mean causal effect of every head after each stage of a method, over its chains.

    ``heads``: rankings of heads with ``method, stage``. The interval is over chains, or, of one chain, over
    prompts. Returns ``method, stage, layer, head, effect, low, high, n``, where n counts prompts.
    """
    keys = ["method", "stage", "layer", "head"]
    single = head_intervals(heads, confidence)
    found = single.groupby(keys, sort=False).agg(
        effect=("effect", "mean"), std=("effect", "std"), chains=("effect", "size"), low=("low", "first"),
        high=("high", "first"), n=("n_prompts", "sum"),
    ).reset_index()  # fmt: skip
    ends = student_interval(found["effect"], found.pop("std"), found["chains"], confidence)
    several = found.pop("chains") > 1
    return found.assign(low=ends[0].where(several, found["low"]), high=ends[1].where(several, found["high"]))


def task_effects(
    effects: Mapping[str, pd.DataFrame], unit: str = "probability", confidence: float = 0.95
) -> pd.DataFrame:
    """The mean causal effect of every head in every task.

    ``effects``: task -> ``prompt_id, layer, head, effect, log_effect``; ``unit``: which of the two. Returns
    ``task, layer, head, effect, low, high, n``, where n counts prompts.
    """
    column = {"probability": "effect", "log_probability": "log_effect"}[unit]
    parts = [
        frame.groupby(["layer", "head"])[column].agg(["mean", "std", "count"]).reset_index().assign(task=task)
        for task, frame in effects.items()
    ]
    found = pd.concat(parts, ignore_index=True).rename(columns={"mean": "effect", "count": "n"})
    found["low"], found["high"] = student_interval(found["effect"], found["std"], found["n"], confidence)
    return found[["task", "layer", "head", "effect", "low", "high", "n"]]
