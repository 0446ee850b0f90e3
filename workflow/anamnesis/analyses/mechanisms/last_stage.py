"""One number per chain and measure at the last stage, so that methods can be compared side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from anamnesis.analyses.measured import CHAIN
from anamnesis.analyses.mechanisms.columns import BASE, EVERY, LEARNT, TRAINED, WHOLE
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.stats.intervals import paired_interval

MEASURES = {
    "cosine": "gradient cosine with earlier tasks",
    "conflicts": "conflicting probes",
    "conflicting_heads": "heads whose gradients conflict",
    "cka": "CKA with the model before training, middle third of the layers",
    "rotation": "rotation of principal subspaces, middle third (degrees)",
    "attention_heads": "heads whose attention changed",
    "output_heads": "heads whose output changed",
    "output_heads_low": "heads whose output changed, lowest third",
    "trained_ratio": "top eigenvalue, last over first stage (trained weights)",
    "base_ratio": "top eigenvalue, last over first stage (one layer's attention)",
    "trained_trace_ratio": "trace, last over first stage (trained weights)",
    "base_trace_ratio": "trace, last over first stage (one layer's attention)",
    "routing": "shift of experts' loads (bits)",
}
SHARES = {"conflicts", "conflicting_heads", "attention_heads", "output_heads", "output_heads_low"}


def chain_summary(tables: Mapping[str, pd.DataFrame], cutoffs: Mapping[str, float]) -> pd.DataFrame:
    """``method, order, seed, measure, value`` for :data:`MEASURES`; what was not measured is left out.

    Interference is the mean over all stages and the sets learnt before them; the rest is of the last stage.
    """
    parts = {
        **_interference(tables["interference"]),
        **_drift(_last(tables["drift"])),
        **_heads(_last(tables["heads"]), cutoffs),
        **_landscape(tables["landscape"]),
    }
    if len(tables["routing"]):
        parts["routing"] = _last(tables["routing"]).groupby(CHAIN)["divergence"].mean()
    frames = [series.rename("value").reset_index().assign(measure=name) for name, series in parts.items()]
    joined = pd.concat([f for f in frames if len(f)], ignore_index=True)
    return joined[[*CHAIN, "measure", "value"]].dropna()


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["stage"] == frame["stage"].max()]


def _interference(frame: pd.DataFrame) -> dict[str, pd.Series]:
    learnt = frame[frame["role"] == LEARNT]
    whole = learnt[(learnt["layer"] == WHOLE) & (learnt["matrix"] == EVERY)]
    heads = learnt[learnt["head"] != WHOLE]
    return {
        "cosine": whole.groupby(CHAIN)["cosine"].mean(),
        "conflicts": whole.groupby(CHAIN)["conflicts"].mean(),
        "conflicting_heads": (heads.set_index(CHAIN)["cosine"] < 0).groupby(level=CHAIN).mean(),
    }


def _drift(frame: pd.DataFrame) -> dict[str, pd.Series]:
    n_layers = frame["layer"].max() + 1
    middle = frame[
        (frame["set"] == EVERY) & frame["layer"].between(n_layers / 3, 2 * n_layers / 3, inclusive="left")
    ]
    return {name: middle.groupby(CHAIN)[name].mean() for name in ("cka", "rotation")}


def _heads(frame: pd.DataFrame, cutoffs: Mapping[str, float]) -> dict[str, pd.Series]:
    means = head_means(frame)
    low = means[means["layer"] < (means["layer"].max() + 1) / 3]
    found = {
        f"{kind}_heads": (means.set_index(CHAIN)[kind] > cutoffs[kind]).groupby(level=CHAIN).mean()
        for kind in ("attention", "output")
    }
    found["output_heads_low"] = (
        (low.set_index(CHAIN)["output"] > cutoffs["output"]).groupby(level=CHAIN).mean()
    )
    return found


def head_means(frame: pd.DataFrame) -> pd.DataFrame:
    """The change of each head, mean over sets: ``method, order, seed, stage, layer, head, attention,
    output``.
    """
    keys = [*CHAIN, "stage", "layer", "head"]
    return frame.groupby(keys, sort=False)[["attention", "output"]].mean().reset_index()


def _landscape(frame: pd.DataFrame) -> dict[str, pd.Series]:
    found = {}
    for weights, name in ((TRAINED, "trained"), (BASE, "base")):
        for measure, suffix in (("eigenvalue", "ratio"), ("trace", "trace_ratio")):
            part = frame[(frame["weights"] == weights) & (frame["measure"] == measure)]
            levels = part.set_index([*CHAIN, "stage"])["value"].unstack("stage")
            if levels.shape[1] > 1:
                found[f"{name}_{suffix}"] = levels[levels.columns.max()] / levels[levels.columns.min()]
    return found


def compared(summary: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Mean, s.d. and n of each measure and method, then the paired difference of each guided form.

    Returns ``measure, kind (level | difference), method, mean, sd, n, low, high``; of a difference ``method``
    is the guided one, and low and high its interval (``stats.intervals.paired_interval``).
    """
    rows = []
    for measure in MEASURES:
        values = summary[summary["measure"] == measure].set_index(CHAIN)["value"]
        methods = list(dict.fromkeys(values.index.get_level_values("method")))
        rows += [_row(measure, "level", m, values.xs(m, level="method").to_numpy()) for m in methods]
        for plain in methods:
            if plain + GUIDED_SUFFIX in methods:
                both = values.xs(plain + GUIDED_SUFFIX, level="method") - values.xs(plain, level="method")
                found = both.dropna().to_numpy()
                low, high, _ = paired_interval(found, resamples, confidence)
                rows.append(
                    {**_row(measure, "difference", plain + GUIDED_SUFFIX, found), "low": low, "high": high}
                )
    return pd.DataFrame(rows, columns=["measure", "kind", "method", "mean", "sd", "n", "low", "high"])


def _row(measure: str, kind: str, method: str, values: np.ndarray) -> dict:
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    mean = float(values.mean()) if len(values) else np.nan
    return {"measure": measure, "kind": kind, "method": method, "mean": mean, "sd": spread, "n": len(values)}
