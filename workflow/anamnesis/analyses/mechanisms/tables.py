"""The measures of all stages together: tables for figures, what predicts forgetting, the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anamnesis.analyses.mechanisms.claims import beside_claims, markdown, tabled
from anamnesis.analyses.mechanisms.comparison import associations, interference_along, pairs_frame
from anamnesis.analyses.mechanisms.last_stage import chain_summary, compared
from anamnesis.core.errors import UserError

STAGE_TABLES = ("drift", "heads", "routing", "landscape")  # of trained stages only
ALL_TABLES = ("gradients", "similarity", "losses")  # of the model before training too


def tabulate(
    curves: pd.DataFrame,
    vectors: Sequence[Mapping],
    reference: pd.DataFrame,
    sets: Sequence[str],
    chains: Sequence[Mapping[str, Any]],
    orders: Sequence[Sequence[str]],
    cutoffs: Mapping[str, float],
    statistics: Mapping[str, Any],
    **frames: Any,
) -> dict[str, Any]:
    """All tables, under ``all_`` names. ``frames``: the tables of stages, chain after chain, under their
    names, and those of the model before training, under ``base_`` names.
    """
    if not chains:
        raise UserError(
            "mechanisms.methods: none of training.methods can be measured (osf, or jfa with latent tasks); "
            "train another method too"
        )
    tables = _joined(frames, chains, len(orders[0]))
    tables["interference"] = interference_along(tables.pop("gradients"), orders)
    accuracy = curves.merge(pd.DataFrame(chains), on=["method", "order", "seed"])
    pairs = pairs_frame(accuracy, tables, cosines(vectors, sets), orders, cutoffs["output"])
    options = statistics["bootstrap_resamples"], statistics["confidence"]
    found, summary = associations(pairs, *options), chain_summary(tables, cutoffs)
    claims = beside_claims(reference, tables, pairs, found, summary, cutoffs)
    side_by_side = compared(summary, *options)
    made = {name: tables[name] for name in ("interference", *STAGE_TABLES)}
    made |= {"pairs": pairs, "predictors": found, "comparison": side_by_side, "claims": claims}
    made["markdown"] = markdown(tabled(side_by_side, found, claims))
    return {f"all_{name}": content for name, content in made.items()}


def _joined(
    frames: Mapping[str, Any], chains: Sequence[Mapping[str, Any]], stages: int
) -> dict[str, pd.DataFrame]:
    """The tables of all stages below each other, those of the model before training once for each chain."""
    keys = [{**chain, "stage": stage} for chain in chains for stage in range(1, stages + 1)]
    starts = [{**chain, "stage": 0} for chain in chains]
    tables = {name: _below(frames[name], keys) for name in (*STAGE_TABLES, *ALL_TABLES)}
    for name in ALL_TABLES:
        before = _below([frames[f"base_{name}"]] * len(starts), starts)
        tables[name] = pd.concat([before, tables[name]], ignore_index=True)
    return tables


def _below(frames: Sequence[pd.DataFrame], keys: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    placed = [frame.assign(**key) for frame, key in zip(frames, keys, strict=True)]
    return pd.concat([f for f in placed if len(f)] or placed, ignore_index=True)


def cosines(vectors: Sequence[Mapping], sets: Sequence[str]) -> pd.DataFrame:
    """set, other, cosine of their instruction vectors ``theta`` in the model before training."""
    thetas = {name: tensors["theta"] for name, tensors in zip(sets, vectors, strict=True)}
    unit = {name: theta / theta.norm() for name, theta in thetas.items()}
    rows = [(a, b, float(unit[a] @ unit[b])) for a in sets for b in sets if a != b]
    return pd.DataFrame(rows, columns=["set", "other", "cosine"])
