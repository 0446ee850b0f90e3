"""The rows of a task file as plain Python values, with one-line errors.

Parquet, JSON (a list, or one object per line) and CSV, each also compressed by gzip. Of encodings only UTF-8,
UTF-16 and UTF-32 are told apart; other bytes are text in several, and the error shows how they read in one.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamnesis.core.errors import UserError, first_line, shorten, show_value
from anamnesis.core.user_files import no_file_at, require_content
from anamnesis.data.text import normal_form, without_blanks

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
        return self._clean(column, value)

    def texts(self, column: str) -> list[str] | None:
        """A list of two or more texts, or None for none at all. Raises UserError for anything else."""
        value = self.get(column)
        if value is None or value == []:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problem = f'{show_value(value)} is not a list of texts; in JSON write ["yes", "no"]'
            raise self.error(column, problem)
        items = [self._clean(column, item) for item in value]
        if len(items) < 2 or not all(items):
            raise self.error(
                column,
                f"{show_value(value)} must hold two or more texts, none of them empty; in "
                "a CSV file they stand between |",
            )
        return items

    def _clean(self, column: str, text: str) -> str:
        """``text`` as everything after the reading of files sees it; nothing else changes the text of a cell.

        It is in the normal form, without the blanks around it (``data.text``). Raises UserError for half a
        character, which JSON can write but no file can.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"{show_value(text)} holds half a character (position {error.start}); write it in full"
            raise self.error(column, problem) from error
        return without_blanks(normal_form(text))


def file_type(path: str | Path) -> str:
    """The ending by which a file is read, in small letters and without that of gzip."""
    return Path(str(path).lower().removesuffix(".gz")).suffix


def read_rows(path: str | Path) -> list[RawRow]:
    """The rows of a task file in file order; missing values are None, lists are lists.

    Raises UserError when the file is missing, of an unknown type, damaged or without rows.
    """
    path = Path(path)
    reader = _READERS.get(file_type(path))
    if reader is None:
        raise UserError(f"{path}: '{path.suffix}' is no type of task file; use {', '.join(_READERS)}")
    if problem := no_file_at(path):
        raise UserError(f"{path}: {problem}; give the path of a file, absolute or relative to {Path.cwd()}")
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
            f"{', '.join(map(shorten, present))}); add or rename"
        )
    return set(present)


def _require_different(names: Sequence[str], where: str | Path) -> None:
    if repeated := [name for name, count in Counter(names).items() if name and count > 1]:
        raise UserError(f"{where}: the column '{shorten(repeated[0])}' stands twice; rename or remove one")


# ---------------------------------------------------------------- parquet


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        # of the file alone: pyarrow's read_table would make columns of names such as split=train in its path
        content = io.BytesIO(_read_bytes(path))
        with pyarrow.parquet.ParquetFile(content, page_checksum_verification=True) as file:
            _require_different(file.schema_arrow.names, path)
            rows = file.read().to_pylist()
    except UserError:
        raise
    except Exception as error:  # pyarrow raises several kinds for a damaged file
        raise UserError(
            f"{path} is not a readable parquet file ({first_line(error)}); it is damaged: copy or download "
            "it again"
        ) from error
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """A cell, with an integer for a whole number and None for none: pandas stores integers as floats where
    one is missing.
    """
    if not isinstance(value, float):
        return value
    return None if value != value else int(value) if value.is_integer() else value


# ---------------------------------------------------------------- text


def _read_bytes(path: Path) -> bytes:
    try:
        require_content(path)
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{path} cannot be read ({reason}); check its permissions, or get it again"
        ) from error


def _read_text(path: Path) -> str:
    content = _read_bytes(path)
    # by a byte order mark, which would become part of the first column's name, or the zeros of UTF-16
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content:
            remedy = "no text (a spreadsheet or an archive?); save the table as CSV in UTF-8"
        elif error.reason == "unexpected end of data":
            remedy = "ends within a character; copy or download it again"
        else:
            start = max(0, error.start - 12)
            seen = content[start : error.start + 12].decode("cp1252", "replace")
            remedy = (
                f"perhaps Windows-1252, in which that place reads '{' '.join(seen.split())}'; save it as "
                "UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
            )
        raise UserError(
            f"{path} is not {encoding.removesuffix('-sig').upper()} text (byte {error.start}) but {remedy}"
        ) from error


def _read_json(path: Path) -> list[dict[str, Any]]:
    text = _read_text(path)
    if text.lstrip().startswith("["):
        items = _parse(text, path)
        return [_require_object(item, f"{path}, row {number}") for number, item in enumerate(items, start=1)]
    # splitlines would also split at characters such as U+2028, which JSON allows inside a text
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    places = {number: f"{path}, line {number}" for number, _ in numbered}
    return [_require_object(_parse(line, places[number]), places[number]) for number, line in numbered]


def _parse(text: str, where: str | Path) -> Any:
    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require_different([name for name, _ in pairs], where)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=read_object)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: not valid JSON ({error}); write a list of objects, or one per line"
        ) from error


def _require_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f'{where}: {show_value(value)} is not a JSON object; write {{"input": ..., "target": ...}}'
        )
    return value


# ---------------------------------------------------------------- CSV

SEPARATORS = ",;\t|"


def _read_csv(path: Path) -> list[dict[str, Any]]:
    remedy = "quote cells that hold separators, quotes or line breaks, or use .jsonl"
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 131,072 characters; long inputs are cut later
    text, separator = _without_separator(_read_text(path))
    named = "tab" if separator == "\t" else f"'{separator}'"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        # spreadsheets write the empty rows and columns below and beside a table as well
        table = [cells for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{path} is not valid CSV ({error}, separator {named}); {remedy}") from error
    if not table:
        return []
    header, *lines = table
    header = [name.strip() for name in header]
    _require_different(header, path)
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(header):
            raise UserError(
                f"{path}, row {number}: {len(cells)} cells under {len(header)} columns (separator {named}, "
                f"from the header); {remedy}"
            )
    return [
        {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True) if name} for cells in lines
    ]


def _without_separator(text: str) -> tuple[str, str]:
    """(the table, its separator): as the first line says, or the one that makes most of the header, where the
    columns that every file has count before others.
    """
    if stated := re.match(r"sep=(.)\r?\n", text):
        return text[stated.end() :], stated[1]

    def columns(separator: str) -> tuple[int, int]:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = [name.strip() for name in next(filter(any, table), [])]
        return len({"input", "target"} & set(header)), len(header)

    return text, max(SEPARATORS, key=columns)


def _cell(column: str, cell: str) -> str | list[str] | None:
    if not cell.strip():
        return None
    return cell.split("|") if column in LIST_COLUMNS else cell


_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
}
FILE_TYPES = tuple(_READERS)
