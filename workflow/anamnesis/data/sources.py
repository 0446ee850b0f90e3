"""One task, wherever it comes from, as the uniform frame: a user's file, a folder, a hub, or built in.

Columns of the frame: split, example_id, instruction, input, target, choices, label, knowledge_prompt,
knowledge_target, knowledge_choices (see :mod:`anamnesis.data.builtin`). Files are checked row by row;
whatever is left out or altered on the way is counted in a log line.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import digest_file
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import COLUMNS, SPLITS, builtin_task
from anamnesis.data.catalogue import look_up
from anamnesis.data.catalogue.entry import DataSet
from anamnesis.data.checked_rows import Example, read_example, read_split, with_letters
from anamnesis.data.compose import compose
from anamnesis.data.files import RawRow, read_rows
from anamnesis.data.hub import hub_rows
from anamnesis.data.instructions import Form, complete_instruction, default_instruction
from anamnesis.data.places import TaskSource, find_task
from anamnesis.data.prompts import generator

VALIDATION_SHARE, TEST_SHARE = 0.10, 0.20
INSTRUCTION_COLUMNS = ("instruction", "definition", "task_description")
"""Columns of a benchmark file that may hold the instruction; the first one present counts."""

logger = logging.getLogger(__name__)


@dataclass
class Prepared:
    """A task and what its record says: where it is from, and how many rows were left out for what reason."""

    source: TaskSource
    frame: pd.DataFrame
    commit: str | None
    dropped: dict[str, int]


class Tally:
    """Counts the rows that are left out, by reason, and says so in the log."""

    def __init__(self):
        self.dropped: dict[str, int] = {}

    def drop(self, path: Path, count: int, reason: str, split: str = "") -> None:
        if count:
            self.dropped[f"{split}: {reason}" if split else reason] = count
            rows = f"{count} rows of {split}" if split else f"{count} rows"
            logger.warning("%s: %s are dropped: %s", path, rows, reason)


def load_task(name: str, data_config: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The uniform frame of a task, as :func:`prepare` makes it."""
    return prepare(name, data_config, seed).frame


def split_sizes(name: str, data_config: Mapping[str, Any]) -> dict[str, int]:
    """At most so many examples of each split of a task: of the section ``data``, or of the task itself."""
    sizes = {split: int(data_config[f"{split}_examples"]) for split in SPLITS}
    return sizes | {"train": int(data_config.get("task_examples", {}).get(name, sizes["train"]))}


def prepare(name: str, data_config: Mapping[str, Any], seed: int, pins: str | Path | None = None) -> Prepared:
    """The uniform frame of a task, one row per example, with what is to be known of its making.

    ``data_config`` is the section ``data`` of the configuration. A split with more rows than
    :func:`split_sizes` allows is sampled with a generator of its own for (seed, task, split); a smaller
    sample is the beginning of a larger one. For files, ``example_id`` is the split and the row number in the
    file. Text columns have dtype object with None where they do not apply; ``label`` is a nullable integer.
    ``pins``: see :func:`anamnesis.data.hub.hub_rows`.

    Raises UserError naming file, row, column and remedy for anything wrong in a file, and as ``find_task``
    and ``hub_rows``.
    """
    source, tally, commit = find_task(name, data_config), Tally(), None
    sizes = split_sizes(name, data_config)
    if source.kind == "built-in":
        return Prepared(source, builtin_task(source.name, seed, sizes), None, {})
    if source.kind == "user":
        own = data_config["tasks"][name]
        _check_digest(source, own.get("sha256"))
        rows = read_rows(source.files[0])
        examples = _user_examples(rows, own)
    else:
        rows, commit = _published_rows(source, tally, pins)
        examples = _folder_examples(rows, source.name, tally)
    pools = _make_pools(examples, rows[0].path, tally)
    return Prepared(source, _sample(pools, sizes, seed, source.name), commit, tally.dropped)


def _published_rows(
    source: TaskSource, tally: Tally, pins: str | Path | None
) -> tuple[list[RawRow], str | None]:
    """The rows of a published set, and their commit if they are from a hub."""
    if source.kind == "hub":
        return hub_rows(look_up(source.name).hub, pins)
    first = read_rows(source.files[0])
    if len(source.files) == 1:
        return first, None
    translation = read_rows(source.files[1])
    for rows in (first, translation):
        _require(rows, ("split", "input", "target"))
    rows, left_out = compose(first, translation)
    tally.drop(first[0].path, len(left_out), f"{source.files[1].name} has no translation of their target")
    if not rows:
        raise UserError(
            f"{first[0].path}: {source.files[1]} translates none of its targets; give the one it needs"
        )
    return rows, None


def _check_digest(source: TaskSource, sha256: str | None) -> None:
    if sha256 and source.files[0].is_file() and (found := digest_file(source.files[0])) != sha256:
        raise UserError(
            f"{source.files[0]} has sha256 {found} but data.tasks.{source.name}.sha256 is {sha256}: it is "
            "damaged or another file; get it again, or correct the digest"
        )


def _require(rows: Sequence[RawRow], columns: Sequence[str]) -> set[str]:
    """All columns of the file. Raises UserError when one of ``columns`` is not among them."""
    present = dict.fromkeys(column for row in rows for column in row.values)
    missing = [column for column in columns if column not in present]
    if missing:
        raise UserError(
            f"{rows[0].path}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing (the file has "
            f"{', '.join(map(str, present))}); add or rename"
        )
    return set(present)


# ---------------------------------------------------------------- a user's own file


def _user_examples(rows: Sequence[RawRow], settings: Mapping[str, Any]) -> list[Example]:
    """The examples of a user's file, with the instruction and knowledge template of the configuration.

    The label follows from target and choices; a column of that name is not read.
    """
    columns = _require(rows, ("input", "target"))
    template = settings.get("knowledge")
    examples = []
    for row in rows:
        values = {**row.values, "label": None}
        if template is not None:
            values["knowledge_prompt"] = template.replace("{input}", row.text("input"))
        split = read_split(row) if "split" in columns else ""
        examples.append(read_example(replace(row, values=values), split, settings["instruction"]))
    bare = [row for row, example in zip(rows, examples, strict=True) if not example.choices]
    if bare and len(bare) < len(rows):
        raise bare[0].error("choices", "is empty but not in all rows; give choices to all rows or to none")
    return examples if "split" in columns else _divide(examples, rows[0].path)


def _divide(examples: Sequence[Example], path: Path) -> list[Example]:
    """70 % train, 10 % validation, 20 % test by a digest of the input, so that equal inputs stay together."""
    inputs = _in_digest_order(examples)
    if len(inputs) < len(SPLITS):
        raise UserError(
            f"{path}: {len(inputs)} different inputs cannot be divided into train, validation and test; "
            "give at least 3, or say the split of each row in a column 'split'"
        )
    n_test, n_validation = _count(TEST_SHARE, inputs), _count(VALIDATION_SHARE, inputs)
    splits = dict.fromkeys(inputs, "train")
    splits |= dict.fromkeys(inputs[:n_test], "test")
    splits |= dict.fromkeys(inputs[n_test : n_test + n_validation], "validation")
    return [replace(example, split=splits[example.input]) for example in examples]


def _in_digest_order(examples: Sequence[Example]) -> list[str]:
    """The different inputs in an order that depends on nothing but their texts."""
    return sorted({e.input for e in examples}, key=lambda text: hashlib.sha256(text.encode()).digest())


def _count(share: float, inputs: Sequence[str]) -> int:
    return max(1, round(share * len(inputs)))


# ---------------------------------------------------------------- a benchmark file of data.root


def _folder_examples(rows: Sequence[RawRow], name: str, tally: Tally) -> list[Example]:
    """The examples of a benchmark file: answers cut short, instructions filled in, options under letters.

    Rows without splits (all of them "") are divided.
    """
    columns, entry = _require(rows, ("split", "input", "target")), look_up(name)
    column = next((c for c in INSTRUCTION_COLUMNS if c in columns), None)
    rows = _with_short_answers(_without_unusable(rows, tally))
    divided = any(row.get("split") != "" for row in rows)
    checked = [read_example(row, read_split(row) if divided else "") for row in rows]
    form = _recognise_form(checked)
    classes = max((e.choices for e in checked), key=len) if form == "classes" else []
    examples = []
    for row, example in zip(rows, checked, strict=True):
        own = row.optional_text(column) if column else None
        if own is None and entry:
            own = entry.instruction
        if own is None:
            instruction = default_instruction(name, form, classes)
        else:
            instruction = complete_instruction(own, form, classes)
        example = replace(_without_words(example, entry), instruction=instruction)
        knowledge = entry.knowledge if entry else "{input}"
        examples.append(with_letters(example, row, knowledge) if form == "options" else example)
    return examples if divided else _divide(examples, rows[0].path)


def _without_words(example: Example, entry: DataSet | None) -> Example:
    """Without the instruction and the cue of its benchmark, where the input holds them."""
    if entry is None or not entry.cue or not example.input.startswith(entry.instruction):
        return example
    body = example.input.removeprefix(entry.instruction).removesuffix(entry.cue).strip()
    return replace(example, input=body) if body else example


def _without_unusable(rows: Sequence[RawRow], tally: Tally) -> list[RawRow]:
    """Leave out rows without a choice to make where others have one, and training rows of another test set.

    The latter are those that the file marks in a column ``in_heldout_test``.
    """
    counts = [len(choices) if isinstance(choices := row.get("choices"), list) else 0 for row in rows]
    if max(counts) > 1:
        usable = [row for row, count in zip(rows, counts, strict=True) if count > 1]
        tally.drop(rows[0].path, len(rows) - len(usable), "they have no two choices, as the others have")
        rows = usable
    own = [row for row in rows if row.get("in_heldout_test") is not True or row.get("split") == "test"]
    reason = "they are outside test but marked in_heldout_test"
    tally.drop(rows[0].path, len(rows) - len(own), reason)
    if not own:
        raise UserError(f"{rows[0].path}: every row is marked in_heldout_test, so none is left; add others")
    return own


def _with_short_answers(rows: Sequence[RawRow]) -> list[RawRow]:
    """Reduce answers with a reasoning of several lines to what can be scored, and count them in the log.

    That is the column ``final_answer`` where the file has one, or the choice that is the answer's first line.
    """
    shortened = [_with_short_answer(row) for row in rows]
    changed = sum(new is not old for new, old in zip(shortened, rows, strict=True))
    if changed:
        logger.warning("%s: %d answers are cut to the final answer, without reasoning", rows[0].path, changed)
    return shortened


def _with_short_answer(row: RawRow) -> RawRow:
    target = row.get("target")
    if not isinstance(target, str) or "\n" not in target.strip():
        return row
    short, first = row.optional_text("final_answer"), target.strip().split("\n")[0].strip()
    if short is None and first in (row.texts("choices") or ()):
        short = first
    return row if short is None else replace(row, values={**row.values, "target": short})


def _recognise_form(examples: Sequence[Example]) -> Form:
    if not all(example.choices for example in examples):
        return "open"
    names = {choice for example in examples for choice in example.choices}
    if len(names) == max(len(set(example.choices)) for example in examples):
        return "classes"
    if all(choice in example.input for example in examples for choice in example.choices):
        return "in_input"
    return "options"


# ---------------------------------------------------------------- splits, samples, frame


def _make_pools(examples: Sequence[Example], path: Path, tally: Tally) -> dict[str, list[Example]]:
    """The examples of each split, no input in two of them; validation is taken out of train when missing."""
    pools = {split: [e for e in examples if e.split == split] for split in SPLITS}
    for split in ("train", "test"):
        if not pools[split]:
            found = ", ".join(s for s in SPLITS if pools[s]) or "none"
            raise UserError(f"{path}: no row of split '{split}' (there: {found}); mark some rows '{split}'")
    for split, others in (("validation", ("test",)), ("train", ("test", "validation"))):
        taken = {example.input for other in others for example in pools[other]}
        kept = [example for example in pools[split] if example.input not in taken]
        reason = f"their input is also in {' or '.join(others)}"
        tally.drop(path, len(pools[split]) - len(kept), reason, split)
        pools[split] = kept
    if not pools["train"]:
        raise UserError(f"{path}: no rows left in train: each has an input of another split; add others")
    if not pools["validation"]:
        _carve_validation(pools, path)
    several = sum("\n" in example.target for example in examples)
    if several:
        logger.warning("%s: %d targets have several lines, a generated answer has one", path, several)
    return pools


def _carve_validation(pools: dict[str, list[Example]], path: Path) -> None:
    """Move a tenth of the training inputs, at least one, to validation; chosen by a digest of the input."""
    inputs = _in_digest_order(pools["train"])
    if len(inputs) < 2:
        raise UserError(
            f"{path}: no rows left for validation, and train has one input only; add rows of either split"
        )
    chosen = set(inputs[: _count(VALIDATION_SHARE, inputs)])
    pools["validation"] = [replace(e, split="validation") for e in pools["train"] if e.input in chosen]
    pools["train"] = [example for example in pools["train"] if example.input not in chosen]
    counts = len(pools["validation"]), len(pools["train"])
    logger.info("%s: no validation rows: %d of train are set apart for it, %d stay", path, *counts)


def _sample(
    pools: Mapping[str, list[Example]], sizes: Mapping[str, int], seed: int, name: str
) -> pd.DataFrame:
    rows = []
    for split in SPLITS:
        order = generator(seed, name, split).permutation(len(pools[split]))[: sizes[split]]
        for example in (pools[split][i] for i in order):
            cells = {column: getattr(example, column) for column in COLUMNS if column != "example_id"}
            rows.append(cells | {"example_id": f"{split}-{example.row:04d}"})
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return frame.astype({"label": "Int64"})
