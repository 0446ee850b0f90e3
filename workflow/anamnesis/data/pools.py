"""The tables of the built-in tasks, cut into disjoint pools of rows for training, validation and test.

The cut depends on the seed and the table, not on the task: tasks of one table share its pools. So a word that
the held-out translation task asks for in its test split never occurs in a training list of another Spanish
task.
"""

from __future__ import annotations

import csv
import zlib
from functools import cache
from pathlib import Path

from anamnesis.core.errors import UserError

SPLITS = ("train", "validation", "test")

Row = dict[str, str]
Pool = tuple[Row, ...]

_TABLES = Path(__file__).parent / "tables"
_TRAIN_SHARE, _VALIDATION_SHARE = 0.60, 0.15
# Tables cut group by group, so that every pool has its share of each kind of row.
_STRATA = {"words": ("pos", "kind"), "topic_texts": ("topic",), "sentiment_texts": ("label",)}


@cache
def read_table(name: str) -> Pool:
    """The rows of one built-in table, each a dictionary column -> text, in file order.

    Raises UserError when the installation lacks the table.
    """
    path = _TABLES / f"{name}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return tuple(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"built-in table '{path}' is missing: restore it from the repository") from None


def split_pools(table: str, seed: int) -> dict[str, Pool]:
    """Cut a table into disjoint pools: about 60 % train, 15 % validation, 25 % test of each group of rows."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in read_table(table):
        groups.setdefault(tuple(row[column] for column in _STRATA.get(table, ())), []).append(row)
    import numpy as np

    rng = np.random.default_rng((seed, zlib.crc32(f"{table}.csv".encode())))
    pools: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for group in groups.values():
        shuffled = [group[i] for i in rng.permutation(len(group))]
        # group by group, so that a pool has every kind of row that a task needs
        first = round(_TRAIN_SHARE * len(group))
        second = first + round(_VALIDATION_SHARE * len(group))
        pools["train"] += shuffled[:first]
        pools["validation"] += shuffled[first:second]
        pools["test"] += shuffled[second:]
    return {split: tuple(rows) for split, rows in pools.items()}
