"""Which rows of a task are for training, validation and test, and how many of them are taken."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from anamnesis.core.errors import UserError, show_value
from anamnesis.data.builtin import COLUMNS
from anamnesis.data.pools import SPLITS
from anamnesis.data.prompts import generator
from anamnesis.data.task_rows import TaskRow

VALIDATION_SHARE, TEST_SHARE = 0.10, 0.20  # of inputs, where a file has no splits
NEARLY_CONSTANT = 0.9  # share of one target, from which a constant answer scores as high as a good one
FEWEST_TARGETS = 10  # of which a share says something

logger = logging.getLogger(__name__)


class Tally:
    """Counts the rows that are left out and those that stand out, by reason, and says so in the log."""

    def __init__(self):
        self.dropped: dict[str, int] = {}
        self.noted: dict[str, int] = {}

    def drop(self, path: Path, count: int, reason: str, split: str = "") -> None:
        if count:
            self.dropped[f"{split}: {reason}" if split else reason] = count
            rows = f"{count} rows of {split}" if split else f"{count} rows"
            logger.warning("%s: %s are dropped: %s", path, rows, reason)

    def note(self, path: Path, count: int, what: str, first: str = "") -> None:
        """``what`` is the rest of a sentence that begins with the count; ``first``: one of them."""
        if count:
            self.noted[what] = count
            logger.warning("%s: %d %s%s", path, count, what, f" (the first: {first})" if first else "")


def divide(rows: Sequence[TaskRow], path: Path) -> list[TaskRow]:
    """70 % train, 10 % validation, 20 % test by a digest of the input, so that equal inputs stay together."""
    # by digest, not by seed: rows that are added later leave the split of the others nearly as it was
    inputs = _in_digest_order(rows)
    if len(inputs) < len(SPLITS):
        raise UserError(
            f"{path}: {len(inputs)} different inputs cannot be divided into train, validation and test; "
            "give at least 3, or say the split of each row in a column 'split'"
        )
    n_test, n_validation = _count(TEST_SHARE, inputs), _count(VALIDATION_SHARE, inputs)
    splits = dict.fromkeys(inputs, "train")
    splits |= dict.fromkeys(inputs[:n_test], "test")
    splits |= dict.fromkeys(inputs[n_test : n_test + n_validation], "validation")
    return [replace(row, split=splits[row.input]) for row in rows]


def _in_digest_order(rows: Sequence[TaskRow]) -> list[str]:
    """The different inputs in an order that depends on nothing but their texts."""
    return sorted({row.input for row in rows}, key=lambda text: hashlib.sha256(text.encode()).digest())


def _count(share: float, inputs: Sequence[str]) -> int:
    return max(1, round(share * len(inputs)))


def make_pools(rows: Sequence[TaskRow], path: Path, tally: Tally) -> dict[str, list[TaskRow]]:
    """The rows of each split, no input in two of them; without validation rows, a tenth of train is taken."""
    pools = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for split in ("train", "test"):
        if not pools[split]:
            present = ", ".join(s for s in SPLITS if pools[s]) or "none"
            raise UserError(f"{path}: no row of split '{split}' (there: {present}); mark some rows '{split}'")
    # test keeps all its rows: scores must not depend on what was trained on
    for split, others in (("validation", ("test",)), ("train", ("test", "validation"))):
        taken = {row.input for other in others for row in pools[other]}
        free = [row for row in pools[split] if row.input not in taken]
        reason = f"their input is also in {' or '.join(others)}"
        tally.drop(path, len(pools[split]) - len(free), reason, split)
        pools[split] = free
    if not pools["train"]:
        raise UserError(f"{path}: no rows left in train: each has an input of another split; add others")
    if not pools["validation"]:
        _carve_validation(pools, path)
    _note_what_stands_out(pools, path, tally)
    return pools


def _note_what_stands_out(pools: Mapping[str, list[TaskRow]], path: Path, tally: Tally) -> None:
    """Count what some tasks mean but what changes the meaning of scores where it is not meant."""
    rows = [row for pool in pools.values() for row in pool]
    answers: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)  # the first row of each target
    for row in rows:
        answers[row.instruction, row.input].setdefault(row.target, row.row)
    different = {(row.instruction, row.input, row.target, *(row.choices or ())) for row in rows}
    tally.note(path, len(rows) - len(different), "rows repeat another row of their split")
    several = [(text, found) for (_, text), found in answers.items() if len(found) > 1]
    shown = [
        f"{show_value(text)} has "
        + ", ".join(f"{show_value(target)} in row {number}" for target, number in found.items())
        for text, found in several[:1]
    ]
    tally.note(path, len(several), "inputs have several targets", *shown)
    repeated = [
        row.row for row in rows if _has_repetition(row.choices) or _has_repetition(row.knowledge_choices)
    ]
    tally.note(path, len(repeated), "rows list a choice twice", *(f"row {number}" for number in repeated[:1]))
    for split, pool in pools.items():
        [(target, count)] = Counter(row.target for row in pool).most_common(1)
        if len(pool) >= FEWEST_TARGETS and count >= NEARLY_CONSTANT * len(pool):
            tally.note(path, count, f"of {len(pool)} rows of {split} have the target {show_value(target)}")
    lines = sum("\n" in row.target for row in rows)
    tally.note(path, lines, "targets have several lines, a generated answer has one")


def _has_repetition(choices: Sequence[str] | None) -> bool:
    return choices is not None and len(set(choices)) < len(choices)


def _carve_validation(pools: dict[str, list[TaskRow]], path: Path) -> None:
    """Move a tenth of the training inputs, at least one, to validation; chosen by a digest of the input."""
    inputs = _in_digest_order(pools["train"])
    if len(inputs) < 2:
        raise UserError(
            f"{path}: no rows left for validation, and train has one input only; add rows of either split"
        )
    chosen = set(inputs[: _count(VALIDATION_SHARE, inputs)])
    pools["validation"] = [replace(row, split="validation") for row in pools["train"] if row.input in chosen]
    pools["train"] = [row for row in pools["train"] if row.input not in chosen]
    counts = len(pools["validation"]), len(pools["train"])
    logger.info("%s: no validation rows: %d of train are set apart for it, %d stay", path, *counts)


def sample(
    pools: Mapping[str, list[TaskRow]], sizes: Mapping[str, int], seed: int, name: str
) -> pd.DataFrame:
    """The frame of a task: at most ``sizes`` rows of each split, the first of a random order."""
    rows = []
    for split in SPLITS:
        # a permutation cut short: with a larger size, the rows of the smaller one come first
        order = generator(seed, name, split).permutation(len(pools[split]))[: sizes[split]]
        for row in (pools[split][i] for i in order):
            cells = {column: getattr(row, column) for column in COLUMNS if column != "example_id"}
            rows.append(cells | {"example_id": f"{split}-{row.row:04d}"})
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype({"label": "Int64"})
