"""One task, wherever it comes from, as a frame with the columns of :data:`anamnesis.data.builtin.COLUMNS`: a
user's file, a folder, a hub, or built in.

Files are checked row by row. Rows that are left out or altered are counted in a log line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import digest_file
from anamnesis.core.errors import UserError, shorten
from anamnesis.data.benchmark_files import benchmark_rows, compose
from anamnesis.data.builtin import builtin_task
from anamnesis.data.catalogue import look_up
from anamnesis.data.files import LIST_COLUMNS, RawRow, read_rows, require_columns
from anamnesis.data.hub import hub_rows
from anamnesis.data.places import TaskSource, find_task
from anamnesis.data.pools import SPLITS
from anamnesis.data.splits import Tally, divide, make_pools, sample
from anamnesis.data.task_rows import TaskRow, read_split, read_task_row
from anamnesis.data.text import normal_form


@dataclass
class Prepared:
    """A task, where it is from, how many rows were left out for which reason, and how many stand out."""

    source: TaskSource
    frame: pd.DataFrame
    commit: str | None
    dropped: dict[str, int]
    noted: dict[str, int]


def load_task(name: str, data_config: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The frame of a task, as :func:`prepare` makes it."""
    return prepare(name, data_config, seed).frame


def split_sizes(name: str, data_config: Mapping[str, Any]) -> dict[str, int]:
    """The largest number of examples of each split of a task."""
    sizes = {split: int(data_config[f"{split}_examples"]) for split in SPLITS}
    return sizes | {"train": int(data_config.get("task_examples", {}).get(name, sizes["train"]))}


def prepare(name: str, data_config: Mapping[str, Any], seed: int, pins: str | Path | None = None) -> Prepared:
    """The frame of a task, one row per example, and where it is from.

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
        return Prepared(source, builtin_task(source.name, seed, sizes), None, {}, {})
    if source.kind == "user":
        settings = data_config["tasks"][name]
        _check_digest(source, settings.get("sha256"))
        rows = read_rows(source.files[0])
        checked = _user_rows(rows, settings)
    else:
        rows, commit = _published_rows(source, tally, pins)
        checked = benchmark_rows(rows, source.name, tally)
    pools = make_pools(checked, rows[0].path, tally)
    return Prepared(source, sample(pools, sizes, seed, source.name), commit, tally.dropped, tally.noted)


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
        require_columns(rows, ("split", "input", "target"))
    rows, left_out = compose(first, translation)
    tally.drop(first[0].path, len(left_out), f"{source.files[1].name} has no translation of their target")
    if not rows:
        raise UserError(
            f"{first[0].path}: {source.files[1]} translates none of its targets; give the one it needs"
        )
    return rows, None


def _check_digest(source: TaskSource, sha256: str | None) -> None:
    if sha256 and source.files[0].is_file() and (digest := digest_file(source.files[0])) != sha256:
        raise UserError(
            f"{source.files[0]} has sha256 {digest} but data.tasks.{source.name}.sha256 is {sha256}: it is "
            "damaged or another file; get it again, or correct the digest"
        )


def _user_rows(rows: Sequence[RawRow], settings: Mapping[str, Any]) -> list[TaskRow]:
    """The rows of a user's file, with the instruction and knowledge template of the configuration.

    The label follows from target and choices; a column of that name is not read.
    """
    columns = require_columns(rows, ("input", "target"))
    instruction, template = normal_form(settings["instruction"]), settings.get("knowledge")
    checked = []
    for row in rows:
        # a user's file may have a column of that name for something else
        values = {**row.values, "label": None}
        if template is not None:
            values["knowledge_prompt"] = template.replace("{input}", row.text("input"))
        split = read_split(row) if "split" in columns else ""
        checked.append(read_task_row(replace(row, values=values), split, instruction))
        _require_different_choices(row)
    bare = [row for row, task_row in zip(rows, checked, strict=True) if not task_row.choices]
    if bare and len(bare) < len(rows):
        raise bare[0].error("choices", "is empty but not in all rows; give choices to all rows or to none")
    return checked if "split" in columns else divide(checked, rows[0].path)


def _require_different_choices(row: RawRow) -> None:
    """Raise UserError for a choice that is listed twice: a slip, with which guessing has other odds."""
    for column in LIST_COLUMNS:
        for choice, count in Counter(row.texts(column) or ()).items():
            if count > 1:
                raise row.error(column, f"'{shorten(choice)}' stands there {count} times; list it once")
