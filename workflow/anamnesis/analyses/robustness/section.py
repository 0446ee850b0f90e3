"""The report's section on vectors from few prompts: sums of head outputs and optimised vectors."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.robustness.tables import HEADS, NONE, OPTIMISED, paired_cosines, robustness_table
from anamnesis.figures.style import readable
from anamnesis.report.builder import Section, Table
from anamnesis.report.findings import answer
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import percent

CLAIM = "that sums of head outputs depend less on the prompts than optimised vectors do"
HEADER = [
    "Set",
    "Prompts",
    "Cosine, heads",
    "Cosine, optimised",
    "Accuracy, heads",
    "Accuracy, optimised",
    "None added",
]
FEWEST = 5
"""Pairs of draws; fewer would all point one way too often by chance (4 one time in 16, even if unrelated)."""


def sections(results: AnalysisResults) -> list[Section]:
    """The figure with an answer, and the numbers of every set."""
    rows = results.frames["robustness"]
    alt = "Cosine between vectors and zero-shot accuracy against the number of prompts, a column per set"
    picture = results.picture("robustness", alt, [verdict(rows)], [numbers(rows)])
    return [Section("Head outputs against optimised vectors", pictures=[picture])]


def numbers(rows: pd.DataFrame) -> Table:
    """A row per set and number of prompts."""
    cells, shown = (
        robustness_table(rows).set_index(["set", "extractor", "measure", "prompts"]).sort_index(),
        [],
    )
    for name in dict.fromkeys(rows["set"]):
        none = cells.loc[(name, NONE)].iloc[0]["mean"]
        for size in cells.loc[(name, HEADS, "accuracy")].index:
            cosines = [
                f"{cells.loc[(name, kind, 'cosine', size), 'mean']:.2f}" for kind in (HEADS, OPTIMISED)
            ]
            scores = [cells.loc[(name, kind, "accuracy", size)] for kind in (HEADS, OPTIMISED)]
            right = [f"{percent(score['mean'])} ± {100 * score['sd']:.0f}" for score in scores]
            shown.append([readable(name), size, *cosines, *right, percent(none)])
    draws, examples = int(cells["count"].min()), int(cells["n"].max())
    return Table(
        HEADER,
        shown,
        f"Mean cosine between the vectors of two draws of prompts; zero-shot accuracy with the vector added, "
        f"± s.d. over {draws} draws, {examples} test examples.",
    )


def verdict(rows: pd.DataFrame) -> str:
    """Whether, with the fewest prompts, the heads' vectors are the more alike in every pair of draws."""
    pairs = paired_cosines(rows)
    pairs = pairs[pairs["prompts"] == pairs["prompts"].min()]
    ahead, n = int((pairs[HEADS] > pairs[OPTIMISED]).sum()), len(pairs)
    holds = None if n < FEWEST or 0 < ahead < n else ahead == n
    size = pairs["prompts"].iloc[0]
    return answer(
        CLAIM, holds, f"with {size} prompts they are the more alike in {ahead} of n = {n} pairs of draws"
    )
