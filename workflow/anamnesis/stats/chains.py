"""The accuracy frames of chains, read from the evaluations of their stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import pandas as pd

from anamnesis.core.artifacts import read_batches
from anamnesis.stats.forgetting import SCORED, accuracy_frame, mean_scores
from anamnesis.stats.held_out import chance_levels
from anamnesis.stats.summary import Chain

_OPTIONS = ("set", "form", "choice_scores")


def read_chains(
    evaluations: Sequence[str],
    chains: Sequence[Mapping],
    orders: Sequence[Sequence[str]],
    harness: Sequence[str] = (),
    harness_stages: Sequence[int] = (),
) -> list[Chain]:
    """The chains with their accuracies. ``evaluations``: stages 0 to T of each chain, chain after chain;
    ``chains``: their method, order (number, from 1) and seed; ``orders``: the tasks of each order;
    ``harness``: further records at ``harness_stages`` of each chain.
    """
    stages, further = len(orders[0]) + 1, len(harness_stages)
    found = []
    for i, chain in enumerate(chains):
        scores = [_scores_in(path) for path in evaluations[i * stages : (i + 1) * stages]]
        for stage, path in zip(harness_stages, harness[i * further : (i + 1) * further], strict=True):
            scores[stage] = pd.concat([scores[stage], _scores_in(path)], ignore_index=True)
        tasks = [None, *orders[chain["order"] - 1]]
        frame = accuracy_frame(list(zip(range(stages), tasks, scores, strict=True)))
        found.append(Chain(chain["method"], chain["order"], chain["seed"], frame))
    return found


def read_chance(evaluations: Sequence[str], harness: Sequence[str] = ()) -> dict[tuple[str, str], float]:
    """(set, form) -> accuracy of guessing, from the first evaluation of each kind; empty without one."""
    first = [*evaluations[:1], *harness[:1]]
    return chance_levels(rows for path in first for rows in read_batches(path, _OPTIONS))


@cache  # the evaluation before training is part of every chain
def _scores_in(path: str) -> pd.DataFrame:
    """The mean scores in a file of records, which may be larger than memory."""
    return mean_scores(read_batches(path, SCORED), path)
