"""Table 1: what each training method keeps, over orders and seeds, and what guidance changes, pair by pair.

All values are fractions (scores between 0 and 1); ``stats.printed`` prints per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.core.names import GENERATED, GUIDED_SUFFIX
from anamnesis.evaluation.harness import HARNESS
from anamnesis.stats import forgetting as measures_of
from anamnesis.stats.intervals import paired_interval

BASELINE = "before training"
MEASURES = ("hp", "ip", "op", "forgetting", "bwt")
TABLE_COLUMNS = (
    "kind", "method", "guided", "measure", "mean", "sd", "n", "low", "high", "confidence", "interval",
    "scorer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of stages: method, task order (number), seed, and its tidy accuracy frame."""

    method: str
    order: int
    seed: int
    frame: pd.DataFrame


def curves_frame(chains: Sequence[Chain]) -> pd.DataFrame:
    """The accuracy frames of all chains below each other, with ``method, order, seed`` in front of their
    columns.
    """
    if not chains:
        raise UserError("no chain given: name at least one method, order and seed in the configuration")
    identified = [
        c.frame.reindex(columns=measures_of.WITH_EMPTY).assign(method=c.method, order=c.order, seed=c.seed)
        for c in chains
    ]
    joined = pd.concat(identified, ignore_index=True)
    return joined[["method", "order", "seed", *measures_of.WITH_EMPTY]]


def chain_measures(chains: Sequence[Chain], shots: int | None = None) -> pd.DataFrame:
    """The measures of every chain, one row each, and those of the model before training.

    Returns
    -------
    Frame ``method, order, seed, hp, ip, op, knowledge, forgetting, bwt`` (fractions; ``knowledge`` is missing
    where no held-out set has that form), ``scorer`` (what options were ranked by; "generated" when none
    were). A row named "before training" comes first: stage 0 of the first chain, which all chains share, with
    missing order and seed and without forgetting and BWT.

    Raises
    ------
    UserError : no chain, a chain given twice, or a stage or set missing from a chain.
    """
    if not chains:
        raise UserError("no chain given: name at least one method, order and seed in the configuration")
    keys = [(c.method, c.order, c.seed) for c in chains]
    double = [k for k in keys if keys.count(k) > 1]
    if double:
        raise UserError(
            f"chain method={double[0][0]} order={double[0][1]} seed={double[0][2]} is given twice"
        )
    trained = [_trained_row(c, shots) for c in chains]
    return pd.DataFrame([_baseline_row(chains[0], shots), *trained]).astype(
        {"order": "Int64", "seed": "Int64"}
    )


def _levels(frame: pd.DataFrame, shots: int | None, stage: int | None) -> dict[str, float]:
    return {
        "hp": measures_of.held_out_performance(frame, stage),
        "ip": measures_of.in_context_performance(frame, shots, stage),
        "op": measures_of.overall_performance(frame, stage),
        "knowledge": measures_of.knowledge_performance(frame, stage),
    }


def _trained_row(chain: Chain, shots: int | None) -> dict[str, object]:
    return {
        "method": chain.method,
        "order": chain.order,
        "seed": chain.seed,
        **_levels(chain.frame, shots, None),
        "forgetting": measures_of.forgetting(chain.frame),
        "bwt": measures_of.backward_transfer(chain.frame),
        "scorer": _scorers(chain.frame),
    }


def _scorers(frame: pd.DataFrame) -> str:
    """What options of the suite's sets were ranked by; "generated" when none were."""
    scorers = frame.loc[frame["role"] != HARNESS, "scorer"]
    return ", ".join(dict.fromkeys(scorers[scorers != GENERATED])) or GENERATED


def _baseline_row(chain: Chain, shots: int | None) -> dict[str, object]:
    return {
        "method": BASELINE,
        "order": None,
        "seed": None,
        **_levels(chain.frame, shots, 0),
        "forgetting": math.nan,
        "bwt": math.nan,
        "scorer": _scorers(chain.frame),
    }


def table1(
    measures: pd.DataFrame, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Table 1 in tidy form, one row per method and measure, then one per pair of methods and measure.

    Parameters
    ----------
    measures : frame of :func:`chain_measures`.
    resamples, confidence, seed : of :func:`paired_interval` over (order, seed) pairs.

    Returns
    -------
    Frame with :data:`TABLE_COLUMNS`. ``kind`` is "level" (mean and s.d. over chains) or "difference" (mean of
    guided − method over the (order, seed) that both have, with the interval ``low`` to ``high``). ``sd`` has
    ddof=1 and is empty for n < 2; ``interval`` is "t", "BCa", "percentile" or empty (fewer than two
    pairs, or all equal).
    """
    methods = list(dict.fromkeys(measures["method"]))
    rows = [_level_row(measures, method, name) for method in methods for name in MEASURES]
    for method in methods:
        guided = method + GUIDED_SUFFIX
        if guided in methods:
            pairs = paired_differences(measures, method, guided)
            rows += [
                difference_row(pairs, method, guided, name, resamples, confidence, seed) for name in MEASURES
            ]
    scorer = ", ".join(dict.fromkeys(measures["scorer"]))
    return pd.DataFrame([row | {"scorer": scorer} for row in rows], columns=list(TABLE_COLUMNS))


def paired_differences(measures: pd.DataFrame, method: str, guided: str) -> pd.DataFrame:
    """Differences guided − method of all measures, index (order, seed), for the pairs that both methods
    have.
    """
    keys = ["order", "seed"]
    plain = measures[measures["method"] == method].set_index(keys)[list(MEASURES)]
    with_guidance = measures[measures["method"] == guided].set_index(keys)[list(MEASURES)]
    shared = plain.index.intersection(with_guidance.index).sort_values()
    return with_guidance.loc[shared] - plain.loc[shared]


def _moments(values: np.ndarray) -> dict[str, float | int]:
    n = len(values)
    return {
        "mean": float(values.mean()) if n else math.nan,
        "sd": float(values.std(ddof=1)) if n > 1 else math.nan,
        "n": n,
    }


def _level_row(measures: pd.DataFrame, method: str, name: str) -> dict[str, object]:
    values = measures.loc[measures["method"] == method, name].dropna().to_numpy(dtype=float)
    nothing = {"low": math.nan, "high": math.nan, "confidence": math.nan, "interval": ""}
    return {"kind": "level", "method": method, "guided": "", "measure": name, **_moments(values), **nothing}


def difference_row(
    pairs: pd.DataFrame, method: str, guided: str, name: str, resamples: int, confidence: float, seed: int = 0
) -> dict[str, object]:
    """The row of :func:`table1` for the measure ``name`` of :func:`paired_differences`."""
    values = pairs[name].dropna().to_numpy(dtype=float)
    low, high, how = paired_interval(values, resamples, confidence, seed)
    found = {"low": low, "high": high, "confidence": confidence if how else math.nan, "interval": how}
    return {
        "kind": "difference",
        "method": method,
        "guided": guided,
        "measure": name,
        **_moments(values),
        **found,
    }
