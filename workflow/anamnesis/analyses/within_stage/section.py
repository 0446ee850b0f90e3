"""The report's section on how heads are overshadowed within a stage."""

from __future__ import annotations

import pandas as pd

from anamnesis.analyses.within_stage.tables import FALLERS, RISERS, SELECTED, changes, half_way, pooled
from anamnesis.report.builder import Section
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import percent

CHANCE = " (perhaps by chance: on the other half of the prompts that is not seen)"
NAMED = 3  # heads named of those that rise most, and fall most


def sections(results: AnalysisResults) -> list[Section]:
    """The figure, with what the table ``within_stage`` says."""
    alt = "Effects, norms and accuracy by step, and a map of changes, a row per method"
    shown = results.picture("within_stage", alt, within_stage_sentences(results.frames["within_stage"]))
    return [Section("How overshadowing happens", pictures=[shown])]


def within_stage_sentences(table: pd.DataFrame) -> list[str]:
    """Per chain and stage: what S, the risers and the fallers do, when, what accuracy does, and whether that
    is overshadowing.
    """
    said = []
    for place, part in table.groupby(["method", "order", "seed", "stage"], sort=False):
        selected, risers = (_moved(part, "effect", name).iloc[-1] for name in (SELECTED, RISERS))
        said += [
            f"{_place(*place)} {_effects(part)} {_named(part)} {_outputs(part)}",
            f"{verdict(selected, risers)} {_same(part)}",
        ]
    return said


def _place(method: str, order: int, seed: int, stage: int) -> str:
    return f"{method}, stage {stage} (order {order}, seed {seed}):"


def _effects(part: pd.DataFrame) -> str:
    moved = {name: _moved(part, "effect", name) for name in (SELECTED, RISERS, FALLERS)}
    n = int(moved[SELECTED].iloc[-1]["n"])
    return (
        f"over {part['step'].max()} steps the effects of S, added up, {_went(moved[SELECTED])}, half of that "
        f"by step {half_way(part, 'effect', SELECTED)} and {_furthest(moved[SELECTED])}; those of the heads "
        f"that rise most {_went(moved[RISERS])}, of those that fall most {_went(moved[FALLERS])} (changes "
        f"with 95\u00a0% intervals, n = {n} prompts)."
    )


def _outputs(part: pd.DataFrame) -> str:
    norms = " and ".join(
        f"{100 * _moved(part, 'norm', name)['change'].iloc[-1]:+.1f}\u00a0% {words}".replace("-", "−")
        for name, words in ((SELECTED, "for S"), (RISERS, "for the heads that rise"))
    )
    found = pooled(part)
    goes = " and ".join(
        f"{form} accuracy from {percent(data['value'].iloc[0])} to {percent(data['value'].iloc[-1])}"
        for form, data in found.groupby("form", sort=False)
    )
    return f"The norm of outputs changes by {norms}; {goes} (n = {int(found['n'].max())} answers)."


def verdict(selected: pd.Series, risers: pd.Series) -> str:
    """Whether S loses effect and other heads gain it, by the intervals ``low`` to ``high`` of the changes."""
    claim = "that a stage takes effect from S and gives it to other heads"
    if selected["high"] < 0 and risers["low"] > 0:
        return f"This supports {claim}."
    if selected["low"] > 0 or risers["high"] < 0:
        return f"This does not support {claim}."
    return f"Too little data to say {claim}: an interval includes 0."


def _moved(part: pd.DataFrame, measure: str, name: str) -> pd.DataFrame:
    """The rows of ``changes`` of one group, step by step."""
    found = changes(part)
    return found[(found["measure"] == measure) & (found["name"] == name)]


def _went(moved: pd.DataFrame) -> str:
    first, last = moved.iloc[0], moved.iloc[-1]
    change = f"{last['change']:+.3f}, {last['low']:+.3f} to {last['high']:+.3f}"
    return f"go from {first['value']:.3f} to {last['value']:.3f} ({change})".replace("-", "−")


def _furthest(moved: pd.DataFrame) -> str:
    row = moved.loc[moved["change"].abs().idxmax()]
    return f"furthest at step {int(row['step'])} ({row['change']:+.3f})".replace("-", "−")


def _named(part: pd.DataFrame) -> str:
    heads = part[part["measure"] == "head effect"]
    at = heads.pivot(index=["layer", "head", "name"], columns="step", values="value")
    change = at[at.columns.max()] - at[at.columns.min()]
    parts = []
    found = {
        "rise": (change.nlargest(NAMED), _moved(part, "effect", RISERS).iloc[-1]["low"] > 0),
        "fall": (change.nsmallest(NAMED), _moved(part, "effect", FALLERS).iloc[-1]["high"] < 0),
    }
    for word, (order, sure) in found.items():
        names = ", ".join(
            f"{layer}.{head}{' (in S)' if name == SELECTED else ''}" for layer, head, name in order.index
        )
        parts.append(f"{names} {word} most" + CHANCE * (not sure))
    return f"Heads (layer.head) {'; '.join(parts)}."


def _same(part: pd.DataFrame) -> str:
    apart = float(part["difference"].iloc[0])
    if apart == 0:
        return "Training once more ended with the stored weights, bit for bit."
    return f"Training once more ended with other weights than are stored: up to {apart:.2g} apart."
