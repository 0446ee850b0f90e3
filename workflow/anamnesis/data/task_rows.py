"""A checked row of a task, and the checks that turn a row of a file into it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import ascii_uppercase

from anamnesis.core.errors import shorten, show_value, unknown
from anamnesis.data.files import RawRow
from anamnesis.data.pools import SPLITS

TYPES = {
    "choices": "texts",
    "knowledge_prompt": "text",
    "knowledge_target": "text",
    "knowledge_choices": "texts",
}
"""Of columns that may be without any value (``artifacts.write_parquet``)."""


@dataclass(frozen=True)
class TaskRow:
    """A checked row: one example of a task. ``row``: its number in the file, counted from 1; ``split``: empty
    until it is known; ``label``: the index of ``target`` in ``choices``, both None for a free answer.
    """

    row: int
    split: str
    instruction: str
    input: str
    target: str
    choices: list[str] | None = None
    label: int | None = None
    knowledge_prompt: str | None = None
    knowledge_target: str | None = None
    knowledge_choices: list[str] | None = None


def read_task_row(row: RawRow, split: str = "", instruction: str = "") -> TaskRow:
    """The row, checked. Raises UserError for an empty or mistyped cell and for contradicting cells."""
    target, choices = row.text("target"), row.texts("choices")
    label = None if choices is None else _read_label(row, target, choices)
    checked = TaskRow(row.number, split, instruction, row.text("input"), target, choices, label)
    return _with_knowledge(checked, row)


def read_split(row: RawRow) -> str:
    """The split of a row. Raises UserError unless it is train, validation or test."""
    split = row.text("split")
    if split not in SPLITS:
        raise row.error("split", str(unknown("split", split, SPLITS)))
    return split


def with_letters(checked: TaskRow, row: RawRow, knowledge: str = "{input}") -> TaskRow:
    """Both forms of a multiple choice: the options under letters, and ``knowledge`` with their texts.

    Raises UserError for more than 26 options.
    """
    options = checked.choices
    if len(options) > len(ascii_uppercase):
        raise row.error("choices", f"{len(options)} options, more than there are letters; give at most 26")
    letters = list(ascii_uppercase[: len(options)])
    lettered = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    if checked.knowledge_prompt is None:
        checked = replace(
            checked,
            knowledge_prompt=knowledge.replace("{input}", checked.input),
            knowledge_target=checked.target,
            knowledge_choices=options,
        )
    return replace(
        checked,
        input="\n".join([checked.input, *lettered]),
        target=letters[checked.label],
        choices=letters,
    )


def _read_label(row: RawRow, target: str, choices: list[str]) -> int:
    label = row.get("label")
    if target not in choices:
        allowed = ", ".join(map(shorten, choices))
        problem = f"'{shorten(target)}' is not among the choices ({allowed}); correct one of them"
        raise row.error("target", problem)
    if label is None:
        return choices.index(target)
    # True is an int to Python, and no position to the user
    if isinstance(label, bool) or not isinstance(label, int):
        raise row.error("label", f"{show_value(label)} is not an integer; give the target's position, from 0")
    if not 0 <= label < len(choices):
        raise row.error("label", f"{show_value(label)} is out of range; allowed are 0 to {len(choices) - 1}")
    if choices[label] != target:
        meant, given = shorten(choices[label]), shorten(target)
        raise row.error("label", f"{label} means '{meant}' but the target is '{given}'; correct one of them")
    return label


def _with_knowledge(checked: TaskRow, row: RawRow) -> TaskRow:
    """Add the knowledge form from the row's columns; without choices for it, those of the row serve."""
    prompt, choices = row.optional_text("knowledge_prompt"), row.texts("knowledge_choices")
    target = row.optional_text("knowledge_target")
    if not prompt:
        if choices or target:
            raise row.error("knowledge_prompt", "is empty though the row has a knowledge answer; fill it in")
        return checked
    expected_count = len(checked.choices or ())
    if choices and len(choices) != expected_count:
        problem = f"holds {len(choices)} texts but choices holds {expected_count}; make them equally many"
        raise row.error("knowledge_choices", problem)
    choices = choices or checked.choices
    expected = choices[checked.label] if choices else target or checked.target
    if target and target != expected:
        problem = f"'{shorten(target)}' is not the right choice, '{shorten(expected)}'; correct it"
        raise row.error("knowledge_target", problem)
    return replace(checked, knowledge_prompt=prompt, knowledge_target=expected, knowledge_choices=choices)
