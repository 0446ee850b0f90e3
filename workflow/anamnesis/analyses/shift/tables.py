"""The shift of all stages, with what they took from held-out sets. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from anamnesis.analyses.measured import CHAIN, PLACE, labelled
from anamnesis.stats.correlation import correlation

SHIFTS = {"prompt": "at the last prompt token", "answer": "over the answer's tokens"}


def tabulate(
    parts: Sequence[pd.DataFrame], curves: pd.DataFrame, places: Sequence[Mapping]
) -> dict[str, pd.DataFrame]:
    """``method, order, seed, stage, set, prompt, answer, examples, forgotten``: means over the examples of
    the ``set`` that the stage has learnt, and the drop since before training of zero-shot accuracy
    (instruction form), mean over the held-out sets; NaN where they were not scored after the stage.

    ``curves``: accuracy of all chains.
    """
    grouped = labelled(parts, places).groupby([*PLACE, "set"], sort=False)
    table = grouped.agg(prompt=("prompt", "mean"), answer=("answer", "mean"), examples=("example", "size"))
    asked = (curves["role"] == "held_out") & (curves["form"] == "instruction") & (curves["shots"] == 0)
    accuracy = curves[asked].groupby(PLACE)["value"].mean().rename("accuracy").reset_index()
    start = accuracy[accuracy["stage"] == 0].set_index(CHAIN)["accuracy"].rename("start")
    lost = accuracy.join(start, on=CHAIN).assign(forgotten=lambda f: f["start"] - f["accuracy"])
    return {"table": table.reset_index().merge(lost[[*PLACE, "forgotten"]], "left", PLACE)}


def shift_correlations(table: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Spearman's correlation of each kind of shift with forgetting, over chains and stages: ``kind, n,
    spearman, low, high``. Stages of one chain are not independent, so the interval is too narrow.
    """
    rows = []
    for kind in SHIFTS:
        both = table[[kind, "forgotten"]].dropna().to_numpy(dtype=float)
        values = correlation(*np.ascontiguousarray(both.T), True, resamples, confidence)
        rows.append((kind, len(both), *values))
    return pd.DataFrame(rows, columns=["kind", "n", "spearman", "low", "high"])
