"""The catalogue: every published data set by name, and the sequences in which the papers learn them.

A suite is a YAML file of this folder with one entry a set (:class:`DataSet`). Lengths and epochs are those of
arXiv 2406.12227, licences those that the sources state. Commits of hub repositories are pinned where several
independent public projects name the same one; docs/reference/catalogue.md says which are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamnesis.core.errors import UserError, show_value, unknown

if TYPE_CHECKING:
    from anamnesis.data.catalogue.entry import DataSet

FOLDER = Path(__file__).parent
SUITES = ("func", "trace", "long", "held_out", "jfa", "bbh")
"""The files whose sets go by their names, in the order of docs/reference/catalogue.md."""
KEYS = ("suite", "shared", "defaults", "sets")
"""Of the file of a suite. ``shared`` is for anchors only; an entry overrides ``defaults`` key by key."""

DEFAULT_ANSWER = 50
"""Tokens of the longest answer of a set that is not in the catalogue."""

NUMBERED = re.compile(r"task0*(?P<number>\d+)(?:_\w+)?")
"""Names of Super-NaturalInstructions tasks: ``task618``, or with what follows in the official name."""


@cache
def catalogue() -> Mapping[str, DataSet]:
    """Every published data set by name, except those of Super-NaturalInstructions."""
    return {name: entry for suite in SUITES for name, entry in read_suite(FOLDER / f"{suite}.yaml").items()}


@cache
def sequences() -> Mapping[str, list[str]]:
    """Orders of tasks by name."""
    return _read(FOLDER / "sequences.yaml")


@cache
def look_up(name: str) -> DataSet | None:
    """The catalogue's entry of a task, None when it has none."""
    if match := NUMBERED.fullmatch(name):
        return read_suite(FOLDER / "superni.yaml", f"task{int(match['number']):03d}").popitem()[1]
    return catalogue().get(name)


def read_suite(path: Path, only: str = "") -> dict[str, DataSet]:
    """The entries of the file of a suite by name. ``only``: the name of the one set whose entry it has.

    Raises UserError naming file, entry and key for anything that is no entry.
    """
    from anamnesis.data.catalogue.entry import read_entry  # pydantic: only for those who look something up

    content = _read(path)
    for key in content:
        if key not in KEYS:
            raise UserError(f"{path}: {unknown('key', key, KEYS)}")
    defaults = {**(content.get("defaults") or {}), "suite": content.get("suite")}
    entries = content.get("sets")
    if not isinstance(entries, dict):
        raise UserError(
            f"{path}, key 'sets': {show_value(entries)} is not a mapping; give it one entry a set"
        )
    return {only or name: read_entry(path, only or name, defaults, entry) for name, entry in entries.items()}


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)  # both are safe
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); correct it, or restore it from the repository"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {show_value(content)}: it must hold 'key: value' lines")
    return content
