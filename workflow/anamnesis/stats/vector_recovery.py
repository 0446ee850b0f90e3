"""How much of what training takes the instruction vector of the model before training gives back: tables for
the figure ``vector_recovery`` and the report. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from anamnesis.stats.forgetting import require_columns
from anamnesis.stats.intervals import paired_interval
from anamnesis.stats.layers import chosen_layers
from anamnesis.stats.summary import BASELINE

COLUMNS = ["method", "order", "seed", "set", "condition", "layer", "accuracy", "n"]
CONDITIONS = ("none", "add", "random", "few-shot")
"""Zero-shot, zero-shot with θ or a random vector of its norm, few-shot."""
MEAN = "mean of the sets"


def recovery_frame(recovered: pd.DataFrame, interventions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on test examples under :data:`CONDITIONS`: the model before training (method
    ``summary.BASELINE``, no order and seed), then every chain after its last stage.

    ``recovered``: the tables of the rule ``recover`` below each other, columns ``COLUMNS``;
    ``interventions``: those of the rule ``intervene``; sets that only they have are left out.
    """
    require_columns(recovered, COLUMNS, "table of accuracy with vectors after training")
    layers, sets = chosen_layers(interventions), list(dict.fromkeys(recovered["set"]))
    rows = interventions[(interventions["split"] == "test") & interventions["set"].isin(sets)]
    rows = rows[rows["condition"].isin(CONDITIONS)]
    rows = rows[(rows["condition"] != "random") | (rows["base"] == "zero-shot")]
    rows = rows[(rows["layer"] == -1) | (rows["layer"] == rows["set"].map(layers))]
    before = rows.assign(method=BASELINE, order=pd.NA, seed=pd.NA)[COLUMNS]
    whole = pd.concat([before.astype({"order": "Int64", "seed": "Int64"}), recovered[COLUMNS]])
    return whole.astype({"order": "Int64", "seed": "Int64"}).reset_index(drop=True)


def chain_accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per method, order, seed and set, and, of several sets, one for their mean (:data:`MEAN`):
    accuracy under each of :data:`CONDITIONS`, as columns. ``frame``: :func:`recovery_frame`.
    """
    require_columns(frame, COLUMNS, "table of accuracy with vectors")
    keys = ["method", "order", "seed"]
    filled = frame.astype({"order": "Int64", "seed": "Int64"}).fillna({"order": -1, "seed": -1})
    wide = filled.pivot(index=[*keys, "set"], columns="condition", values="accuracy")[[*CONDITIONS]]
    sets, methods = list(dict.fromkeys(frame["set"])), list(dict.fromkeys(frame["method"]))
    if len(sets) > 1:
        means = wide.groupby(level=keys).mean()
        wide = pd.concat([wide, means.assign(set=MEAN).set_index("set", append=True)])
    wide = wide.reset_index().rename_axis(columns=None)
    order = {"method": methods, "set": [*sets, MEAN]}
    return wide.sort_values(
        ["method", "set", "order", "seed"],
        key=lambda column: column.map(order[column.name].index) if column.name in order else column,
        ignore_index=True,
    )


def recovery_gain(frame: pd.DataFrame, confidence: float = 0.95, resamples: int = 10_000) -> pd.DataFrame:
    """What a chain's accuracy lost and what vectors change, one row per method and set, :data:`MEAN` last.

    ``frame``: :func:`recovery_frame`. Returns (fractions) ``method, set``; ``before`` (zero-shot before
    training), ``before_few_shot``; means over the ``n`` chains: ``after`` (zero-shot), ``after_few_shot``,
    ``added``, ``random``; and the means of paired differences, each with ``_low`` and ``_high``
    (``summary.paired_interval`` over the chains): ``lost`` (before − after), ``gain`` (added − after),
    ``random_gain`` (random − after); ``interval``: how that of ``gain`` was found, at ``confidence``.
    """
    accuracies = chain_accuracies(frame)
    first = accuracies[accuracies["method"] == BASELINE].set_index("set")
    rows = []
    for (method, name), chains in accuracies.groupby(["method", "set"], sort=False):
        if method == BASELINE:
            continue
        before, after = float(first.loc[name, "none"]), chains["none"].to_numpy()
        mean = chains[[*CONDITIONS]].mean()
        row = {
            "method": method, "set": name, "before": before, "after": mean["none"], "added": mean["add"],
            "random": mean["random"], "before_few_shot": float(first.loc[name, "few-shot"]),
            "after_few_shot": mean["few-shot"],
        }  # fmt: skip
        differences = {
            "lost": before - after,
            "gain": chains["add"].to_numpy() - after,
            "random_gain": chains["random"].to_numpy() - after,
        }
        for key, values in differences.items():
            row |= dict(_interval(key, values, confidence, resamples))
        how = paired_interval(differences["gain"], resamples, confidence)[2]
        rows.append(row | {"interval": how, "confidence": confidence, "n": len(chains)})
    return pd.DataFrame(rows)


def _interval(key: str, values: np.ndarray, confidence: float, resamples: int) -> Iterator[tuple[str, float]]:
    low, high, _ = paired_interval(values, resamples, confidence)
    yield from ((key, float(values.mean())), (f"{key}_low", low), (f"{key}_high", high))
