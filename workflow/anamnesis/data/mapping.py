"""Turn a row of a hub repository into one of a benchmark file, by the mapping in the catalogue."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anamnesis.core.errors import UserError, show_value
from anamnesis.data.files import RawRow
from anamnesis.data.prompts import FINAL_MARK

if TYPE_CHECKING:
    from anamnesis.data.catalogue.entry import Columns


def _without_wikihow_marks(text: str) -> str:
    """HellaSwag's texts without what is left of their source's layout, as the field cleans them."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


CLEANERS: dict[str, Callable[[str], str]] = {
    "wikihow": _without_wikihow_marks,
    "lettered": lambda text: re.sub(r"^\s*[A-Z]\)\s*", "", text),
}
"""Ways to clean a text, by the name a mapping gives."""


def map_row(row: RawRow, columns: Columns, split: str) -> RawRow | None:
    """The row with the columns of a benchmark file; None if ``columns.where`` leaves it out.

    Raises UserError naming file, row and column for a column that is missing or does not fit the mapping.
    """
    reader = _Reader(row)
    if columns.where and reader.value(columns.where[0]) not in columns.where[1]:
        return None
    clean = CLEANERS[columns.clean] if columns.clean else str
    values: dict[str, Any] = {"split": split, "input": clean(reader.text(columns.input))}
    if columns.choices or columns.classes:
        values |= _choices(reader, columns, clean)
    else:
        values["target"] = reader.text(columns.target)
    if columns.final_answer:
        values["final_answer"] = reader.text(columns.final_answer)
    if columns.instruction:
        values["instruction"] = reader.value(columns.instruction)
    return replace(row, values=values)


class _Reader(string.Formatter):
    """Fills templates from one row: dots look into a column, ``!c`` capitalises, ``!f`` takes the final
    answer.
    """

    def __init__(self, row: RawRow):
        self.row = row

    def text(self, template: str) -> str:
        return self.vformat(template, (), {})

    def get_field(self, name, args, kwargs):
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, value, "a text or a number")
        return value, name

    def convert_field(self, value, conversion):
        if conversion == "c":
            # small letters after the first, as lm-evaluation-harness builds HellaSwag's contexts
            return str(value).capitalize()
        if conversion == "f":
            return str(value).rpartition(FINAL_MARK)[2].strip()
        return super().convert_field(value, conversion)

    def value(self, path: str) -> Any:
        """The value of a column or, after a dot, of a field in it."""
        value: Any = self.row.values
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                present = ", ".join(self.row.values)
                raise self.row.error(
                    path,
                    f"is not there (the file has {present}); the repository's layout has changed: pin "
                    "another commit, or use data.root",
                )
            value = value[name]
        return value

    def texts(self, path: str) -> list[str]:
        value = self.value(path)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(path, value, "a list of texts")
        return value

    def _wrong(self, path: str, value: Any, wanted: str) -> UserError:
        return self.row.error(
            path, f"{show_value(value)} is not {wanted}; pin another commit, or use data.root"
        )


def _choices(reader: _Reader, columns: Columns, clean: Callable[[str], str]) -> dict[str, Any]:
    """Choices, label and target of a row."""
    if columns.classes:
        options = list(columns.classes)
    elif isinstance(columns.choices, str):
        options = [clean(text) for text in reader.texts(columns.choices)]
    else:
        options = [clean(reader.text(template)) for template in columns.choices]
    label = _position(reader, columns, options)
    return {"choices": options, "label": label, "target": options[label]}


def _position(reader: _Reader, columns: Columns, options: list[str]) -> int:
    """The place of the right option: a number, the digits of one, a truth value, a class name or a letter."""
    label = reader.value(columns.label)
    letters = reader.texts(columns.letters) if columns.letters else list(string.ascii_uppercase)
    # letters before digits: some questions of ARC name their options 1, 2, …
    names = letters[: len(options)]
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, str) and label in options:
        return options.index(label)
    if isinstance(label, bool) or (isinstance(label, str) and label.isdecimal()):
        label = int(label)
    if isinstance(label, int) and 0 <= label < len(options):
        return label
    allowed = f"0 to {len(options) - 1}, or {', '.join(names)}"
    raise reader.row.error(
        columns.label,
        f"{show_value(label)} is out of range; allowed are {allowed} (a split without labels cannot be used)",
    )
