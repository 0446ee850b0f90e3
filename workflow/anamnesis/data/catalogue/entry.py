"""An entry of the catalogue: a published data set, its hub repository, and how its columns are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anamnesis.core.errors import UserError, show_value, unknown


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Entry):
    """How a row of a hub repository becomes an example.

    Texts with braces are templates over the row's columns: ``{choices.text}`` looks into a column, ``{x!c}``
    begins with a capital, ``{x!f}`` is what follows ``####``. ``choices``: a column with a list, or one
    template per option; ``classes``: the same names for all rows instead. ``label``: the column with the
    position, class name or letter of the right one; ``letters``: a column with the options' letters, where
    they are not A, B, C, …. ``where``: a column and the values of the rows that count. ``clean``: a name of
    ``mapping.CLEANERS``, applied to input and choices.
    """

    input: str
    target: str | None = None
    choices: str | tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    label: str | None = None
    letters: str | None = None
    instruction: str | None = None
    final_answer: str | None = None
    where: tuple[str, tuple[str, ...]] | None = None
    clean: str | None = None

    def __str__(self) -> str:
        """The mapping in one line, for the documentation."""
        parts = [f"input = {self.input!r}"]
        if options := self.choices or self.classes:
            parts.append(f"choices = {options if isinstance(options, str) else ', '.join(options)}")
            parts.append(f"label = {self.label}" + (f" in {self.letters}" if self.letters else ""))
        else:
            parts.append(f"target = {self.target}")
        optional = {"instruction": self.instruction, "final answer": self.final_answer, "cleaned": self.clean}
        parts += [f"{name} = {value}" for name, value in optional.items() if value]
        return "; ".join(parts)


class Hub(_Entry):
    """A data-set repository of a hub.

    ``revision``: its commit; None where none is known for sure: the first use pins one (``hub.fetch``).
    ``files``: split -> pattern of its files, in which ``{name}`` is the name of the set; the split "" is
    divided as a user's own file is.
    """

    repository: str
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None
    files: dict[str, str]
    columns: Columns


class DataSet(_Entry):
    """A published data set.

    ``paper``: arXiv number, or author and year. ``instruction``: its words in the instruction form, None
    where the data or the form of its answers decide. ``cue``: the benchmark's words before the answer; where
    inputs have instruction and cue around them, both are taken off. ``knowledge``: the knowledge form of a
    question with options, over ``{input}``. ``metric``: how answers are scored; ``own_metric``: as the
    benchmark itself defines it, where that differs. ``demonstrations``: the split few-shot examples come
    from. ``max_input``, ``max_answer``: tokens; ``epochs``: passes of the paper that trains on it, None where
    none does. ``files``: its names in a folder of benchmarks, besides its own; ``composed_of``: a selection
    and a translation that make it together.
    """

    name: str
    suite: str
    paper: str
    licence: str
    metric: str = "accuracy"
    own_metric: str | None = None
    instruction: str | None = None
    cue: str = ""
    knowledge: str = "{input}"
    demonstrations: str = "train"
    max_input: int = 512
    max_answer: int = 50
    epochs: int | None = None
    hub: Hub | None = None
    files: tuple[str, ...] = ()
    composed_of: tuple[str, str] | None = None

    def metric_of(self, definition: str) -> str:
        """The metric by the name of its ``definition``: "cleaned" or "published"."""
        return self.own_metric or self.metric if definition == "published" else self.metric

    def prepared_from(self) -> dict:
        """The part of the entry that the prepared task depends on, as JSON types: its words and its hub."""
        return self.model_dump(mode="json", include={"instruction", "cue", "knowledge", "hub"})


def read_entry(path: Path, name: str, defaults: Mapping[str, Any], content: Any) -> DataSet:
    """The entry of the set ``name``. Raises UserError naming file, entry and key if it is none."""
    if not isinstance(content, dict):
        raise UserError(
            f"{path}, entry '{name}': {show_value(content)} is not a mapping; write {{}} for an empty one"
        )
    try:
        entry = DataSet.model_validate({**defaults, **content, "name": name})
    except ValidationError as error:
        raise UserError(f"{path}, entry '{name}', {_problem(error)}") from None
    if entry.hub is None:
        return entry
    files = {split: pattern.replace("{name}", name) for split, pattern in entry.hub.files.items()}
    return entry.model_copy(update={"hub": entry.hub.model_copy(update={"files": files})})


def _problem(error: ValidationError) -> str:
    """The first problem of an entry, with its key."""
    first = error.errors()[0]
    where = f"key '{'.'.join(map(str, first['loc']))}'"
    if first["type"] == "extra_forbidden":
        *outer, key = first["loc"]
        model = {(): DataSet, ("hub",): Hub, ("hub", "columns"): Columns}[tuple(outer)]
        return f"{where}: {unknown('key', key, model.model_fields)}"
    if first["type"] == "missing":
        return f"{where} is missing; add it"
    return f"{where}: {first['msg']}, got {show_value(first['input'])}"
