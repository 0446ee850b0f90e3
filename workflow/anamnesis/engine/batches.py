"""The order in which a stage's examples are trained on, fixed before training begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from anamnesis.engine.examples import Example


@dataclass(frozen=True)
class Batch:
    """What one forward pass of the answer loss covers, and the prompts of old tasks that go with it.

    ``examples`` have answers to learn; those replayed from earlier tasks have ``new`` False. ``flashbacks``
    are prompts without answers.
    """

    examples: tuple[Example, ...]
    flashbacks: tuple[Example, ...] = ()


def shuffled_batches(
    examples: Sequence[Example], epochs: int, batch_size: int, rng: np.random.Generator
) -> list[Batch]:
    """Every example once per epoch, in a new order each time; the last batch of an epoch may be smaller."""
    batches = []
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order), batch_size):
            batches.append(Batch(tuple(examples[i] for i in order[start : start + batch_size])))
    return batches


def spread(items: Sequence, places: int) -> list[tuple]:
    """``items`` in their order, divided over ``places`` as evenly as whole numbers allow."""
    edges = [round(k * len(items) / places) for k in range(places + 1)]
    return [tuple(items[a:b]) for a, b in pairwise(edges)]
