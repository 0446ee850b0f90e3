"""The rows of a task file (.parquet, .jsonl, .json or .csv) as plain Python values, with one-line errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet
from anamnesis.core.errors import UserError, first_line, show_value

LIST_COLUMNS = ("choices", "knowledge_choices")
"""Columns that hold a list of texts; in a CSV file its items stand between ``|``."""


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file. ``number`` counts from 1 and leaves the header of a CSV file out."""

    path: Path
    number: int
    values: Mapping[str, Any]

    def get(self, column: str) -> Any:
        """The value of a column, None where the row has none."""
        return self.values.get(column)

    def error(self, column: str, problem: str) -> UserError:
        """The error for one cell: file, row and column before ``problem``, which ends with the remedy."""
        return UserError(f"{self.path}, row {self.number}, column '{column}': {problem}")

    def text(self, column: str) -> str:
        """A text that must be there, without the white space around it. Raises UserError when it is not."""
        text = self.optional_text(column)
        if not text:
            raise self.error(column, "is empty; write a text there or remove the row")
        return text

    def optional_text(self, column: str) -> str | None:
        """A text that may be missing (None) or empty. Raises UserError for a value of another type."""
        value = self.get(column)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.error(column, f"{show_value(value)} is not a text; store the column as text")
        return self._whole(column, value).strip()

    def texts(self, column: str) -> list[str] | None:
        """A list of two or more texts, or None for none at all. Raises UserError for anything else."""
        value = self.get(column)
        if value is None or value == []:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problem = f'{show_value(value)} is not a list of texts; in JSON write ["yes", "no"]'
            raise self.error(column, problem)
        items = [self._whole(column, item).strip() for item in value]
        if len(items) < 2 or not all(items):
            raise self.error(column, f"{show_value(value)} must hold two or more texts, none of them empty")
        return items

    def _whole(self, column: str, text: str) -> str:
        """``text``, unless it holds half a character, which JSON can write but no file can."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"{show_value(text)} holds half a character (position {error.start}); write it in full"
            raise self.error(column, problem) from error
        return text


def read_rows(path: str | Path) -> list[RawRow]:
    """The rows of a task file in file order; missing values are None, lists are lists.

    Raises UserError when the file is missing, of an unknown type, damaged or without rows.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: '{path.suffix}' is no type of task file; use {', '.join(_READERS)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path, which is relative to {Path.cwd()}")
    rows = [RawRow(path, number, values) for number, values in enumerate(reader(path), start=1)]
    if not rows:
        raise UserError(f"{path} has no rows; it needs one row per example")
    return rows


def require_columns(rows: Sequence[RawRow], columns: Sequence[str]) -> set[str]:
    """All columns of the file. Raises UserError when one of ``columns`` is not among them."""
    # rows of JSON may differ in their keys; a dict keeps the order for the message
    present = dict.fromkeys(column for row in rows for column in row.values)
    missing = [column for column in columns if column not in present]
    if missing:
        raise UserError(
            f"{rows[0].path}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing (the file has "
            f"{', '.join(map(str, present))}); add or rename"
        )
    return set(present)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        frame = read_parquet(path)
    except UserError as error:
        reason = first_line(error.__cause__ or error)
        raise UserError(
            f"{path} is not a readable parquet file ({reason}); it is damaged: copy or download it again"
        ) from error.__cause__
    columns = {name: [_plain(value) for value in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    """A cell of a frame as None, str, int, float, bool, list or dict; whole floats are integers with gaps."""
    import numpy as np
    import pandas as pd

    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    # pandas reads integers as floats where one is missing
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.item() if isinstance(value, np.generic) else value


def _read_text(path: Path) -> str:
    try:
        # -sig: spreadsheets write a byte order mark, which would become part of the first column's name
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    # splitlines would also split at characters such as U+2028, which JSON allows inside a text
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            rows.append(_parse_object(line, f"{path}, line {number}"))
    return rows


def _parse_object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); write one JSON object per line") from error
    if not isinstance(value, dict):
        raise UserError(
            f'{where}: {show_value(value)} is not a JSON object; write {{"input": ..., "target": ...}}'
        )
    return value


def _read_json(path: Path) -> list[dict[str, Any]]:
    text = _read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); it must hold a list of objects") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise UserError(f"{path} must hold a list of JSON objects; for one object per line name it .jsonl")
    return content


def _read_csv(path: Path) -> list[dict[str, Any]]:
    remedy = "quote cells that hold commas, quotes or line breaks, or use .jsonl"
    try:
        table = [
            cells for cells in csv.reader(io.StringIO(_read_text(path), newline=""), strict=True) if cells
        ]
    except csv.Error as error:
        raise UserError(f"{path} is not valid CSV ({error}); {remedy}") from error
    if not table:
        return []
    header, *lines = table
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise UserError(f"{path}: a column stands twice in the header ({', '.join(header)}); rename one")
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(header):
            raise UserError(f"{path}, row {number}: {len(cells)} cells under {len(header)} columns; {remedy}")
    return [{name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)} for cells in lines]


def _cell(column: str, cell: str) -> str | list[str] | None:
    if not cell.strip():
        return None
    return cell.split("|") if column in LIST_COLUMNS else cell


_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
}
