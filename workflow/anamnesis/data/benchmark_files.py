"""The rows of a benchmark file (of ``data.root`` or a hub) as checked rows: answers cut short, instructions
filled in, options under letters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from anamnesis.core.errors import UserError
from anamnesis.data.catalogue import look_up
from anamnesis.data.files import RawRow, require_columns
from anamnesis.data.instructions import Form, complete_instruction, default_instruction
from anamnesis.data.splits import Tally, divide
from anamnesis.data.task_rows import TaskRow, read_split, read_task_row, with_letters
from anamnesis.data.text import answer_line

if TYPE_CHECKING:
    from anamnesis.data.catalogue.entry import DataSet

INSTRUCTION_COLUMNS = ("instruction", "definition", "task_description")
"""Columns that may hold the instruction; the first one present counts."""

logger = logging.getLogger(__name__)


def benchmark_rows(rows: Sequence[RawRow], name: str, tally: Tally) -> list[TaskRow]:
    """The checked rows of the set ``name``. Rows without splits (all of them "") are divided."""
    columns, entry = require_columns(rows, ("split", "input", "target")), look_up(name)
    column = next((c for c in INSTRUCTION_COLUMNS if c in columns), None)
    # before the checks, which refuse a target that is not among the choices
    rows = _with_short_answers(_without_unusable(rows, tally))
    has_splits = any(row.get("split") != "" for row in rows)
    checked = [read_task_row(row, read_split(row) if has_splits else "") for row in rows]
    form = _recognise_form(checked)
    # some rows may list fewer of the classes than there are
    classes = max((task_row.choices for task_row in checked), key=len) if form == "classes" else []
    knowledge = entry.knowledge if entry else "{input}"
    complete = []
    for row, task_row in zip(rows, checked, strict=True):
        instruction = row.optional_text(column) if column else None
        if instruction is None and entry:
            instruction = entry.instruction
        if instruction is None:
            instruction = default_instruction(name, form, classes)
        else:
            instruction = complete_instruction(instruction, form, classes)
        task_row = replace(_without_words(task_row, entry), instruction=instruction)
        complete.append(with_letters(task_row, row, knowledge) if form == "options" else task_row)
    return complete if has_splits else divide(complete, rows[0].path)


def _without_words(row: TaskRow, entry: DataSet | None) -> TaskRow:
    """The row without the instruction and the cue of its benchmark, where the input holds them."""
    if entry is None or not entry.cue or not row.input.startswith(entry.instruction):
        return row
    body = row.input.removeprefix(entry.instruction).removesuffix(entry.cue).strip()
    return replace(row, input=body) if body else row


def _without_unusable(rows: Sequence[RawRow], tally: Tally) -> list[RawRow]:
    """Leave out rows without choices where others have some, and training rows of another test set, which the
    file marks in a column ``in_heldout_test``.
    """
    counts = [len(choices) if isinstance(choices := row.get("choices"), list) else 0 for row in rows]
    if max(counts) > 1:
        usable = [row for row, count in zip(rows, counts, strict=True) if count > 1]
        tally.drop(rows[0].path, len(rows) - len(usable), "they have no two choices, as the others have")
        rows = usable
    free = [row for row in rows if row.get("in_heldout_test") is not True or row.get("split") == "test"]
    reason = "they are outside test but marked in_heldout_test"
    tally.drop(rows[0].path, len(rows) - len(free), reason)
    if not free:
        raise UserError(f"{rows[0].path}: every row is marked in_heldout_test, so none is left; add others")
    return free


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
    if not isinstance(target, str) or "\n" not in row.optional_text("target"):
        return row
    short, first = row.optional_text("final_answer"), answer_line(row.optional_text("target"))
    if short is None and first in (row.texts("choices") or ()):
        short = first
    return row if short is None else replace(row, values={**row.values, "target": short})


def _recognise_form(rows: Sequence[TaskRow]) -> Form:
    if not all(row.choices for row in rows):
        return "open"
    names = {choice for row in rows for choice in row.choices}
    if len(names) == max(len(set(row.choices)) for row in rows):
        return "classes"
    if all(choice in row.input for row in rows for choice in row.choices):
        return "in_input"
    return "options"


def compose(selection: Sequence[RawRow], translation: Sequence[RawRow]) -> tuple[list[RawRow], list[RawRow]]:
    """(the rows of ``selection`` with their targets translated, those that the translation does not cover).

    The pairs of all splits of the translation serve as its dictionary, in which the first of several
    translations counts. Choices are left out, as they are not translated.
    """
    # reversed: of two translations the first one stays
    dictionary = {row.text("input"): row.text("target") for row in reversed(translation)}
    composed, left_out = [], []
    for row in selection:
        target = dictionary.get(row.text("target"))
        if target is None:
            left_out.append(row)
        else:
            values = {**row.values, "target": target, "choices": None, "label": None}
            composed.append(replace(row, values=values))
    return composed, left_out
