"""What is said and shown of vectors from few prompts. No torch."""

from __future__ import annotations

import pandas as pd

COLUMNS = ["set", "layer", "prompts", "extractor", "measure", "draw", "other", "value", "n"]
"""One row per vector (measure "accuracy": zero-shot, with it added after ``layer``, on ``n`` test examples)
and per pair of vectors (measure "cosine", of ``draw`` and ``other``).
"""
HEADS, OPTIMISED, BOTH, NONE = "heads", "optimised", "both", "none"
"""Extractors; "both": the cosine of the two vectors from one draw; "none": no vector added."""
ALONE = -1  # in the place of a draw


def robustness_table(rows: pd.DataFrame) -> pd.DataFrame:
    """``set, layer, prompts, extractor, measure, mean, sd, least, most, count, n``: over the ``count`` draws,
    or pairs of draws; ``sd`` with ddof=1, NaN of one.
    """
    keys = ["set", "layer", "prompts", "extractor", "measure"]
    found = rows.groupby(keys, sort=False).agg(
        mean=("value", "mean"), sd=("value", "std"), least=("value", "min"), most=("value", "max"),
        count=("value", "size"), n=("n", "first"),
    )  # fmt: skip
    return found.reset_index()


def paired_cosines(rows: pd.DataFrame) -> pd.DataFrame:
    """``set, prompts, draw, other, heads, optimised``: cosines of the same two draws, per extractor."""
    found = rows[(rows["measure"] == "cosine") & rows["extractor"].isin([HEADS, OPTIMISED])]
    keys = ["set", "prompts", "draw", "other"]
    return found.pivot(index=keys, columns="extractor", values="value").reset_index()
