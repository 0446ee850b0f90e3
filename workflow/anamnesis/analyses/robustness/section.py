"""The report's section on vectors from few prompts: sums of head outputs beside optimised vectors."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.robustness.tables import (
    HEADS,
    NONE,
    OPTIMISED,
    paired_cosines,
    robustness_table,
)
from anamnesis.figures.style import readable
from anamnesis.report.builder import Section
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import percent


def sections(results: AnalysisResults) -> list[Section]:
    """The figure, with what the table ``robustness`` says."""
    alt = "Cosine between vectors and zero-shot accuracy against the number of prompts, a column per set"
    shown = results.picture("robustness", alt, robustness_sentences(results.frames["robustness"]))
    return [Section("Head outputs against optimised vectors", pictures=[shown])]


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
