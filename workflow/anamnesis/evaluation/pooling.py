"""Chains of other runs of the same experiment: seeds made on another computer, or on another day."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from anamnesis.errors import UserError
from anamnesis.evaluation.forgetting import COLUMNS, require_columns, training_tasks
from anamnesis.evaluation.summary import Chain

CHAIN = ["method", "order", "seed"]
EVALUATED = ["set", "role", "form", "shots", "metric", "scorer", "n"]
"""What chains must have in common to stand in one table."""


def chains_of(curves: pd.DataFrame, what: str) -> list[Chain]:
    """The chains of a frame of ``evaluation.summary.curves_frame``, in order of appearance.

    ``what`` names the frame in the UserError for a missing column.
    """
    require_columns(curves, [*CHAIN, *COLUMNS], what)
    return [
        Chain(str(method), int(order), int(seed), part[list(COLUMNS)].reset_index(drop=True))
        for (method, order, seed), part in curves.groupby(CHAIN, sort=False)
    ]


def pooled(
    own: Sequence[Chain], others: Sequence[tuple[str, pd.DataFrame]], orders: Sequence[Sequence[str]]
) -> list[Chain]:
    """``own`` chains and then those of ``others``: (path, ``curves_frame``) of each other run.

    What was evaluated must be equal: sets, roles, forms, demonstrations, metrics, scorers and numbers of
    examples; so must the ``orders`` of tasks. Scores before training that differ by more than one example are
    logged as a warning: another model or other data, or only another kind of processor.

    Raises
    ------
    UserError : a run of other tasks or examples, or a chain that is here already.
    """
    whole, origin = list(own), {(c.method, c.order, c.seed): "this run" for c in own}
    for path, curves in others:
        for chain in chains_of(curves, path):
            key = chain.method, chain.order, chain.seed
            if key in origin:
                raise UserError(
                    f"statistics.pool: chain method={key[0]} order={key[1]} seed={key[2]} of {path} is in "
                    f"{origin[key]} as well: take seeds that were run once"
                )
            _check_same_experiment(chain, own[0], path, orders)
            origin[key] = path
            whole.append(chain)
    return whole


def _check_same_experiment(chain: Chain, own: Chain, path: str, orders: Sequence[Sequence[str]]) -> None:
    name = f"statistics.pool: {path}, chain method={chain.method} order={chain.order} seed={chain.seed}"
    tasks = training_tasks(chain.frame)
    if chain.order > len(orders) or tasks != list(orders[chain.order - 1]):
        raise UserError(f"{name}: trained on {', '.join(tasks)}, which is not this order in suite.orders")
    here, there = (_before_training(c.frame) for c in (own, chain))
    different = here.index.symmetric_difference(there.index)
    if len(different):
        first = dict(zip(EVALUATED, different[0], strict=True))
        side = "there only" if different[0] in there.index else "here only"
        found = ", ".join(f"{key} {value}" for key, value in first.items())
        raise UserError(f"{name}: evaluated otherwise ({side}: {found}); pool runs with equal settings")
    apart = (here - there).abs() * here.index.get_level_values("n")
    if apart.max() > 1.5:
        worst = dict(zip(EVALUATED, apart.idxmax(), strict=True))
        logging.getLogger(__name__).warning(
            "%s: before training %s (%s shots) differs by %.0f of %d examples from this run: was it the same "
            "model, and the same data?", name, worst["set"], worst["shots"], apart.max(), worst["n"],
        )  # fmt: skip


def _before_training(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["stage"] == 0].set_index(EVALUATED)["value"].sort_index()
