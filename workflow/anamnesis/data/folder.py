"""The task files of a folder of benchmarks (``data.root``), found without importing pandas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anamnesis.core.errors import UserError
from anamnesis.data.catalogue import NUMBERED, look_up


def find_task_files(root: str | None) -> dict[str, Path]:
    """Task name -> file, for every ``<task>.parquet`` and ``<benchmark>/<task>.parquet`` below ``root``.

    Hidden files and folders do not count. Empty when ``root`` is None. Raises UserError when ``root`` is not
    a directory, for names with braces, and when two files have the name of one task: which of them is meant
    is not guessed.
    """
    if root is None:
        return {}
    base = Path(root)
    if not base.is_dir():
        raise UserError(f"data.root = '{root}': must be an existing directory with .parquet files, or null")
    found: dict[str, Path] = {}
    for path in sorted([*base.glob("*.parquet"), *base.glob("*/*.parquet")]):
        if any(part.startswith(".") for part in path.relative_to(base).parts):
            continue
        if {"{", "}"} & set(str(path.relative_to(base))):
            raise UserError(
                f"data.root = '{root}': the name {path} has braces, which mark wildcards; rename it"
            )
        first = found.setdefault(path.stem, path)
        if first != path:
            raise UserError(
                f"data.root = '{root}': task '{path.stem}' has two files, {first} and {path}; rename or "
                "remove one, or set data.root to one of the folders"
            )
    return found


def files_of(name: str, files: Mapping[str, Path]) -> tuple[Path, ...]:
    """The files of ``find_task_files`` that make up a task, () when there are none.

    A file of the task's name comes first; then the other names the catalogue gives it, a
    Super-NaturalInstructions file of its number, or the two files it is composed of.
    """
    entry = look_up(name)
    if name in files or entry is None:
        return (files[name],) if name in files else ()
    for other in entry.files:
        if other in files:
            return (files[other],)
    if entry.composed_of and all(part in files for part in entry.composed_of):
        return tuple(files[part] for part in entry.composed_of)
    # a bare number stands for the official name; a name given in full must be found as it is
    if match := NUMBERED.fullmatch(name):
        numbers = {stem: NUMBERED.fullmatch(stem) for stem in files}
        same = [stem for stem, m in numbers.items() if m and int(m["number"]) == int(match["number"])]
        return (files[same[0]],) if name.removeprefix("task").isdecimal() and same else ()
    return ()
