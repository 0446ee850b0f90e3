"""What was seen within a stage as one tidy table. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ["step", "measure", "name", "layer", "head", "value", "low", "high", "n"]
"""``layer`` and ``head`` are -1 where a row is not about one head."""
SELECTED, RISERS, FALLERS = "S", "risers", "fallers"
GROUPS = (SELECTED, RISERS, FALLERS)
FORMS = ("few-shot", "zero-shot")
Z = float(stats.norm.ppf(0.975))

Heads = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Look:
    """The model after ``step`` optimiser steps, by set: ``effects`` (n_prompts, n_layers, n_heads) of eq. 2,
    ``norms`` (n_questions, n_layers, n_heads) of head outputs before W_O on few-shot prompts, and whether
    answers were ``right`` (form -> n_questions truth values).
    """

    step: int
    effects: Mapping[str, np.ndarray]
    norms: Mapping[str, np.ndarray]
    right: Mapping[str, Mapping[str, Sequence[bool]]]


def within_table(looks: Sequence[Look], selected: Heads) -> pd.DataFrame:
    """The table ``COLUMNS`` of all looks, the first of which is at the start of the stage.

    Rows by ``measure``: "effect", the effects of a group of heads added up, and "norm", the mean over its
    heads of the output's norm in units of that at the start, for each of ``GROUPS``; "zero-shot" and
    "few-shot", accuracy of a set, with its Wilson interval; "head effect" and "head norm", of single heads,
    ``name`` saying which are in S. ``low`` to ``high`` of groups: 95 % interval of the change since the start
    over the ``n`` prompts (each prompt compared with itself), added to the value at the start.

    Every set counts the same. Risers and fallers are as many heads as ``selected`` (S) has: those whose
    effect has risen, fallen most in the end. As noise alone makes some rise, the heads added up on one half
    of the prompts are those chosen on the other half.
    """
    sets = list(looks[0].effects)
    effects, norms = (_stacked(looks, part, sets) for part in ("effects", "norms"))
    size = effects[sets[0]].shape[2:]
    own = np.zeros(size, bool)
    own[tuple(np.transpose(selected))] = True
    halves = {name: np.arange(e.shape[1]) % 2 for name, e in effects.items()}
    change = [_change(effects, halves, half) for half in (0, 1)]
    rows: list[tuple] = []
    for group in GROUPS:
        chosen = [own if group == SELECTED else _extreme(c, len(selected), group) for c in change]
        added = {
            name: np.where(halves[name][:, None, None] == 0, chosen[1], chosen[0]) * values
            for name, values in effects.items()
        }
        rows += _series(looks, "effect", group, {name: a.sum((2, 3)) for name, a in added.items()})
        whole = own if group == SELECTED else _extreme(_change(effects), len(selected), group)
        ratio = {name: _relative(values)[:, :, whole].mean(-1) for name, values in norms.items()}
        rows += _series(looks, "norm", group, ratio)
    rows += [row for look in looks for row in _accuracy(look)]
    rows += _single(looks, "head effect", effects, own) + _single(looks, "head norm", norms, own)
    return pd.DataFrame(rows, columns=COLUMNS)


def _stacked(looks: Sequence[Look], part: str, sets: Sequence[str]) -> dict[str, np.ndarray]:
    """Set -> (n_looks, n_prompts, n_layers, n_heads)."""
    return {name: np.stack([getattr(look, part)[name] for look in looks]) for name in sets}


def _change(effects: Mapping[str, np.ndarray], halves=None, half: int = 0) -> np.ndarray:
    """(n_layers, n_heads): mean change from the first look to the last, of one half of the prompts or all."""
    ends = {name: e[-1] - e[0] for name, e in effects.items()}
    if halves is not None:
        ends = {name: e[halves[name] == half] for name, e in ends.items()}
    return np.mean([e.mean(0) for e in ends.values()], 0)


def _extreme(change: np.ndarray, count: int, group: str) -> np.ndarray:
    """Truth values: the ``count`` heads that have risen most, or fallen most."""
    order = np.argsort((-change if group == RISERS else change).ravel(), kind="stable")[:count]
    chosen = np.zeros(change.size, bool)
    chosen[order] = True
    return chosen.reshape(change.shape)


def _relative(norms: np.ndarray) -> np.ndarray:
    return norms / np.maximum(norms[:1], 1e-12)


def _series(looks, measure: str, group: str, values: Mapping[str, np.ndarray]) -> list[tuple]:
    """Rows of a measure of a group. ``values``: set -> (n_looks, n_prompts)."""
    mean = np.mean([v.mean(1) for v in values.values()], 0)
    error = np.zeros(len(looks))
    for v in values.values():
        error += (v - v[:1]).var(1, ddof=1) / v.shape[1] if v.shape[1] > 1 else np.nan
    error = np.sqrt(error) / len(values)
    n = sum(v.shape[1] for v in values.values())
    return [
        (look.step, measure, group, -1, -1, float(m), float(m - Z * e), float(m + Z * e), n)
        for look, m, e in zip(looks, mean, error, strict=True)
    ]


def _accuracy(look: Look) -> list[tuple]:
    rows = []
    for name, forms in look.right.items():
        for form, right in forms.items():
            interval = stats.binomtest(int(sum(right)), len(right)).proportion_ci(0.95, "wilson")
            limits = float(interval.low), float(interval.high)
            rows.append((look.step, form, name, -1, -1, float(np.mean(right)), *limits, len(right)))
    return rows


def _single(looks, measure: str, values: Mapping[str, np.ndarray], own: np.ndarray) -> list[tuple]:
    mean, n = np.mean([v.mean(1) for v in values.values()], 0), sum(v.shape[1] for v in values.values())
    nothing = float("nan")
    return [
        (look.step, measure, SELECTED if own[place] else "", *place, float(found[place]), nothing, nothing, n)
        for look, found in zip(looks, mean, strict=True)
        for place in np.ndindex(own.shape)
    ]


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """Of the groups' rows of :func:`within_table`, of one chain and stage: ``step, measure, name, value,
    change, low, high, n``, the change since the start with its interval.
    """
    groups = table[table["measure"].isin(["effect", "norm"])]
    start = groups.groupby(["measure", "name"])["value"].transform("first")
    moved = groups.assign(change=groups["value"] - start, low=groups["low"] - start)
    return moved.assign(high=groups["high"] - start)[
        ["step", "measure", "name", "value", "change", "low", "high", "n"]
    ].reset_index(drop=True)


def half_way(table: pd.DataFrame, measure: str, name: str) -> int:
    """The first step at which at least half of a group's change in the end has come about."""
    found = changes(table)
    one = found[(found["measure"] == measure) & (found["name"] == name)]
    return int(one["step"][(one["change"] / one["change"].iloc[-1] >= 0.5).idxmax()])


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """``step, form, value, low, high, n``: accuracy over the answers of all sets and chains of the table,
    with its Wilson interval.
    """
    rows = []
    answers = table[table["measure"].isin(FORMS)]
    for (step, form), part in answers.groupby(["step", "measure"]):
        n = int(part["n"].sum())
        right = round(float((part["value"] * part["n"]).sum()))
        interval = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
        rows.append((step, form, right / n, float(interval.low), float(interval.high), n))
    return pd.DataFrame(rows, columns=["step", "form", "value", "low", "high", "n"])
