"""The report's section on vectors from few prompts: sums of head outputs beside optimised vectors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anamnesis.analyses.robustness.tables import (
    HEADS,
    NONE,
    OPTIMISED,
    paired_cosines,
    robustness_table,
)
from anamnesis.figures.style import readable
from anamnesis.report.builder import Picture, Section
from anamnesis.report.sentences import percent

CAPTION = """\
    Vectors of the model before training, made from disjoint draws of prompts: sums of the mean outputs of the
    heads in S, and vectors found by gradient descent on the answers to the same examples, of at most the same
    norm. Above: cosine between two draws, and between the two vectors of one draw. Below: zero-shot accuracy
    on test examples with the vector added after the layer chosen on validation examples. Points: draws or
    pairs of draws; lines: means; whiskers: one s.d. over them. S itself is the same in all draws."""


def robustness_section(rows: pd.DataFrame, png: str | Path) -> Section:
    """``rows``: ``dynamics.robustness_tables.COLUMNS`` of all sets."""
    png = Path(png)
    links = {"PDF": png.with_suffix(".pdf"), "PNG": png, "data (CSV)": png.with_suffix(".csv")}
    alt = "Cosine between vectors and zero-shot accuracy against the number of prompts, a column per set"
    return Section(
        "Head outputs against optimised vectors",
        pictures=[Picture(png, alt, " ".join(CAPTION.split()), robustness_sentences(rows), links)],
    )


def robustness_sentences(rows: pd.DataFrame) -> list[str]:
    """Per set, cosines and accuracies at the smallest and the largest number of prompts; then the answer."""
    table = robustness_table(rows)
    said = []
    for name, data in table.groupby("set", sort=False):
        base = data[data["extractor"] == NONE].iloc[0]
        sizes = sorted(n for n in data["prompts"].unique() if n)
        ends = " and ".join(str(n) for n in dict.fromkeys([sizes[0], sizes[-1]]))
        cell = data.set_index(["extractor", "measure", "prompts"])
        parts = []
        for kind, words in ((HEADS, "head outputs"), (OPTIMISED, "optimised vectors")):
            near = " and ".join(f"{cell.loc[(kind, 'cosine', n), 'mean']:.2f}" for n in (sizes[0], sizes[-1]))
            right = " and ".join(_share(cell.loc[(kind, "accuracy", n)]) for n in (sizes[0], sizes[-1]))
            parts.append(f"{words}: cosine between draws {near}, zero-shot accuracy {right}")
        said.append(
            f"{readable(name)}, with {ends} prompts: {'; '.join(parts)} (± s.d. over "
            f"{int(cell.loc[(HEADS, 'accuracy', sizes[0]), 'count'])} draws, n = {base['n']} examples, "
            f"{percent(base['mean'])} with nothing added)."
        )
    return [*said, verdict(rows)]


def verdict(rows: pd.DataFrame) -> str:
    """Whether, with the fewest prompts, the heads' vectors are the more alike in every pair of draws."""
    pairs = paired_cosines(rows)
    pairs = pairs[pairs["prompts"] == pairs["prompts"].min()]
    ahead, n = int((pairs[HEADS] > pairs[OPTIMISED]).sum()), len(pairs)
    claim = "that sums of head outputs depend less on the prompts than optimised vectors do"
    size = pairs["prompts"].iloc[0]
    count = f"with {size} prompts they are the more alike in {ahead} of n = {n} pairs of draws"
    if n < FEWEST:
        return f"Too little data to say {claim}: {count}."
    if ahead == n:
        return f"This supports {claim}: {count}."
    if ahead == 0:
        return f"This does not support {claim}: {count}."
    return f"Too little data to say {claim}, as pairs differ: {count}."


FEWEST = 5
"""Pairs of draws; fewer would all point one way too often by chance (4 one time in 16, even if unrelated)."""


def _share(row: pd.Series) -> str:
    return f"{percent(row['mean'])} ± {100 * row['sd']:.0f}"
