"""The report's section on how heads are overshadowed within a stage."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.within_stage.tables import FALLERS, RISERS, SELECTED, changes, half_way, pooled
from anamnesis.report.builder import Section, Table
from anamnesis.report.findings import answer, with_interval
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import percent

CLAIM = "that a stage takes effect from S and gives it to other heads"
WORDS = {SELECTED: "S", RISERS: "rise most", FALLERS: "fall most"}
HEADER = [
    "Chain",
    "Heads",
    "Effect, start",
    "Effect, end",
    "Change",
    "Half of it by step",
    "Norm",
    "Strongest changes",
]
NOTE = (
    "Effects of as many heads as S has, added up, with 95\u00a0% intervals of the change over prompts. Heads "
    "that rise or fall most are chosen on one half of the prompts and measured on the other. Norm: change of "
    "the outputs' length. Strongest changes: layer.head on all prompts; a star marks heads of S."
)
NAMED = 3  # heads named of those that change most


def sections(results: AnalysisResults) -> list[Section]:
    """The figure with an answer for every chain, and what each group of heads does."""
    alt = "Effects, norms and accuracy by step, and a map of changes, a row per method"
    chains = results.frames["within_stage"].groupby(["method", "order", "seed", "stage"], sort=False)
    parts = [(_place(*key), part) for key, part in chains]
    table = Table(
        HEADER, [row for place, part in parts for row in group_rows(place, part)], NOTE, kind="text"
    )
    answers = [verdict(place, part) for place, part in parts]
    return [
        Section(
            "How overshadowing happens", pictures=[results.picture("within_stage", alt, answers, [table])]
        )
    ]


def _place(method: str, order: int, seed: int, stage: int) -> str:
    return f"{method}, order {order}, seed {seed}, stage {stage}"


def group_rows(place: str, part: pd.DataFrame) -> list[list[str]]:
    """A row for S, for the heads that rise most and for those that fall most."""
    moved = changes(part).groupby(["measure", "name"])
    rows = []
    for name, words in WORDS.items():
        effect, norm = moved.get_group(("effect", name)), moved.get_group(("norm", name))
        first, last = effect.iloc[0], effect.iloc[-1]
        rows.append(
            [
                place,
                words,
                *(f"{row['value']:.3f}" for row in (first, last)),
                with_interval(last["change"], last["low"], last["high"], "+.3f"),
                str(half_way(part, "effect", name)),
                f"{100 * norm['change'].iloc[-1]:+.1f}\u00a0%".replace("-", "−"),
                _strongest(part, name),
            ]
        )
    return rows


def _strongest(part: pd.DataFrame, group: str) -> str:
    heads = part[part["measure"] == "head effect"]
    at = heads.pivot(index=["layer", "head", "name"], columns="step", values="value")
    change = at[at.columns.max()] - at[at.columns.min()]
    if group == SELECTED:
        return "–"
    order = (change if group == FALLERS else -change).nsmallest(NAMED)
    return ", ".join(f"{layer}.{head}{'*' * (name == SELECTED)}" for layer, head, name in order.index)


def verdict(place: str, part: pd.DataFrame) -> str:
    """Whether S loses effect and other heads gain it, by the intervals of the changes; what accuracy does;
    and whether training once more ended with the stored weights.
    """
    moved = changes(part)
    last = moved[moved["measure"] == "effect"].groupby("name").last()
    selected, risers = last.loc[SELECTED], last.loc[RISERS]
    holds = None
    if selected["high"] < 0 and risers["low"] > 0:
        holds = True
    elif selected["low"] > 0 or risers["high"] < 0:
        holds = False
    found = pooled(part)
    goes = " and ".join(
        f"{form} accuracy goes from {percent(data['value'].iloc[0])} to {percent(data['value'].iloc[-1])}"
        for form, data in found.groupby("form", sort=False)
    )
    apart = float(part["difference"].iloc[0])
    again = "the stored weights, bit for bit" if apart == 0 else f"other weights, up to {apart:.2g} apart"
    said = f"{place}: {goes} (n = {int(found['n'].max())} answers). {answer(CLAIM, holds)}"
    return f"{said} Training once more ended with {again}."
