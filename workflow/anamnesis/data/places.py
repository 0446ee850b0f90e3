"""Where a task comes from: the user's file, or the first of ``data.sources`` that has it. Loads no pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anamnesis.core.errors import UserError, unknown
from anamnesis.core.user_files import no_folder_at
from anamnesis.data.builtin import BUILTIN
from anamnesis.data.catalogue import NUMBERED, catalogue, look_up

DEFAULT_SOURCES = ("folder", "builtin")
PINS = "hub_revisions.json"
"""File in the folder of results: the commits of repositories that the catalogue does not pin."""


@dataclass(frozen=True)
class TaskSource:
    """Where a task comes from. ``files``: the user's file or those of the folder, none for the others."""

    name: str
    kind: Literal["user", "folder", "hub", "built-in"]
    files: tuple[Path, ...] = ()


def find_task(name: str, data_config: Mapping[str, Any]) -> TaskSource:
    """Where the task ``name`` comes from: ``data.tasks``, then the places of ``data.sources`` in their order.

    Raises UserError for an unknown name, and as ``find_task_files`` for a ``root`` that cannot be used.
    """
    tasks = data_config.get("tasks") or {}
    if name in tasks:
        return TaskSource(name, "user", (Path(tasks[name]["path"]),))
    files = find_task_files(data_config.get("root"))
    if source := _in_sources(name, data_config, files):
        return source
    raise unknown("task", name, sorted({*tasks, *known_tasks(data_config)}))


def known_tasks(data_config: Mapping[str, Any], named: Iterable[str] = ()) -> set[str]:
    """The names of the tasks in ``data.sources``. ``named``: further names to try, as those of
    Super-NaturalInstructions are too many to list.
    """
    files = find_task_files(data_config.get("root"))
    candidates = {*files, *catalogue(), *BUILTIN, *named}
    return {name for name in candidates if _in_sources(name, data_config, files)}


def _in_sources(name: str, data_config: Mapping[str, Any], files: Mapping[str, Path]) -> TaskSource | None:
    for place in data_config.get("sources") or DEFAULT_SOURCES:
        if place == "folder" and (paths := files_of(name, files)):
            return TaskSource(name, "folder", paths)
        if place == "hub" and (entry := look_up(name)) and entry.hub:
            return TaskSource(name, "hub")
        if place == "builtin" and name in BUILTIN:
            return TaskSource(name, "built-in")
    return None


# ---------------------------------------------------------------- the folder data.root


def find_task_files(root: str | None) -> dict[str, Path]:
    """Task name -> file, for every ``<task>.parquet`` and ``<benchmark>/<task>.parquet`` below ``root``.

    Hidden files and folders do not count. Empty when ``root`` is None. Raises UserError when ``root`` is not
    a directory, for names with braces, and when two files have the name of one task: which of them is meant
    is not guessed.
    """
    if root is None:
        return {}
    base = Path(root)
    if problem := no_folder_at(base):
        raise UserError(
            f"data.root = '{root}': must be an existing directory with .parquet files, or null ({problem})"
        )
    for folder in base.glob("[!.]*/"):  # glob would pass over what it may not read
        if problem := no_folder_at(folder):
            raise UserError(f"data.root = '{root}', folder {folder.name}: {problem}, or remove it")
    files: dict[str, Path] = {}
    for path in sorted([*base.glob("*"), *base.glob("*/*")]):
        # in any case of letters, so that no file is passed over for a built-in task
        if path.suffix.lower() != ".parquet" or any(p.startswith(".") for p in path.relative_to(base).parts):
            continue
        if {"{", "}"} & set(str(path.relative_to(base))):
            raise UserError(
                f"data.root = '{root}': the name {path} has braces, which mark wildcards; rename it"
            )
        first = files.setdefault(path.stem, path)
        if first != path:
            raise UserError(
                f"data.root = '{root}': task '{path.stem}' has two files, {first} and {path}; rename or "
                "remove one, or set data.root to one of the folders"
            )
    return files


def files_of(name: str, files: Mapping[str, Path]) -> tuple[Path, ...]:
    """The files of a task among those of :func:`find_task_files`, () when it has none.

    A file of the task's name comes first, then its other names in the catalogue, the two files it is composed
    of, or a Super-NaturalInstructions file of its number.
    """
    if name in files:
        return (files[name],)
    if not files or (entry := look_up(name)) is None:
        return ()
    for other in entry.files:
        if other in files:
            return (files[other],)
    if entry.composed_of and all(part in files for part in entry.composed_of):
        return tuple(files[part] for part in entry.composed_of)
    # task61 also means the file task061_ropes; a name with words is only the file of that name
    if match := NUMBERED.fullmatch(name):
        numbers = {stem: NUMBERED.fullmatch(stem) for stem in files}
        same = [stem for stem, m in numbers.items() if m and int(m["number"]) == int(match["number"])]
        return (files[same[0]],) if name.removeprefix("task").isdecimal() and same else ()
    return ()
