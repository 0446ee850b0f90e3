"""Chains of other runs of the same experiment: seeds made on another computer, or on another day."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.stats.forgetting import COLUMNS, WITH_EMPTY, training_tasks
from anamnesis.stats.summary import Chain

CHAIN = ["method", "order", "seed"]
EVALUATED = ["set", "role", "form", "shots", "metric", "scorer", "n"]
"""What chains must have in common to stand in one table."""


def chains_of(curves: pd.DataFrame, path: str) -> list[Chain]:
    """The chains of a frame of ``stats.summary.curves_frame``, in order of appearance.

    Raises UserError that names ``path`` for a missing column, no chains or a score outside [0, 1].
    """
    missing = [name for name in (*CHAIN, *COLUMNS) if name not in curves.columns]
    if missing:
        raise UserError(
            f"statistics.pool: {path} has no column '{missing[0]}': take the accuracy.parquet of all chains, "
            "which stands beside table1.csv"
        )
    if curves.empty:
        raise UserError(f"statistics.pool: {path} has no chains: take that of a run that has ended")
    wrong = curves[~curves["value"].between(0.0, 1.0)]  # also catches NaN
    if len(wrong):
        raise UserError(f"statistics.pool: {path} has the score {wrong['value'].iloc[0]}, not within 0 to 1")
    return [
        Chain(str(method), int(order), int(seed), part.reindex(columns=WITH_EMPTY).reset_index(drop=True))
        for (method, order, seed), part in curves.groupby(CHAIN, sort=False)
    ]


def pooled(
    own: Sequence[Chain], others: Sequence[tuple[str, pd.DataFrame]], orders: Sequence[Sequence[str]]
) -> list[Chain]:
    """``own`` chains, if any, and then those of ``others``: (path, ``curves_frame``) of each other run.

    What was evaluated must be equal: sets, roles, forms, demonstrations, metrics, scorers and numbers of
    examples; so must the ``orders`` of tasks. Scores before training that differ by more than one example are
    logged as a warning: another model or other data, or only another kind of processor. A chain that comes
    again with the same scores counts once: runs that pool each other's chains have them in their files.

    Raises
    ------
    UserError : a run of other tasks or examples, or another chain of the same method, order and seed.
    """
    found, first = {(c.method, c.order, c.seed): ("this run", c) for c in own}, next(iter(own), None)
    for path, curves in others:
        chains = chains_of(curves, path)
        first = first or chains[0]
        _check_same_experiment(chains, first, path, orders)
        for chain in chains:
            key = chain.method, chain.order, chain.seed
            where, known = found.setdefault(key, (path, chain))
            if known is not chain and _scores(known) != _scores(chain):
                raise UserError(
                    f"statistics.pool: chain method={key[0]} order={key[1]} seed={key[2]} of {path} has "
                    f"other scores in {where}: take a seed that was run once"
                )
    return [chain for _, chain in found.values()]


def _scores(chain: Chain) -> list[tuple]:
    columns = ["stage", *EVALUATED, "value"]
    return sorted(chain.frame[columns].itertuples(index=False, name=None))


def _check_same_experiment(
    chains: Sequence[Chain], own: Chain, path: str, orders: Sequence[Sequence[str]]
) -> None:
    here, furthest = _before_training(own), 0.0
    for chain in chains:
        name = f"statistics.pool: {path}, chain method={chain.method} order={chain.order} seed={chain.seed}"
        tasks = training_tasks(chain.frame)
        if not 1 <= chain.order <= len(orders) or tasks != list(orders[chain.order - 1]):
            raise UserError(f"{name}: trained on {', '.join(tasks)}, which is not this order in suite.orders")
        there = _before_training(chain)
        different = here.index.symmetric_difference(there.index)
        if len(different):
            side = "there only" if different[0] in there.index else "here only"
            cell = ", ".join(f"{key} {value}" for key, value in zip(EVALUATED, different[0], strict=True))
            raise UserError(f"{name}: evaluated otherwise ({side}: {cell}); pool runs with equal settings")
        apart = (here - there).abs() * here.index.get_level_values("n")
        furthest = max(furthest, float(apart.max()))
    if furthest > 1.5:
        logging.getLogger(__name__).warning(
            "statistics.pool: before training, the scores in %s differ by up to %.0f examples a set from "
            "those of the other chains: was it the same model, and the same data?",
            path,
            furthest,
        )


def _before_training(chain: Chain) -> pd.Series:
    frame = chain.frame[chain.frame["stage"] == 0]
    return frame.set_index(EVALUATED)["value"].sort_index()
