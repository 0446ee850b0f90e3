"""Where a task comes from, without importing pandas: a file of the user's, or one of ``data.sources``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anamnesis.core.errors import unknown
from anamnesis.data.catalogue import catalogue, look_up
from anamnesis.data.folder import files_of, find_task_files

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
    if found := _in_sources(name, data_config, files):
        return found
    raise unknown("task", name, sorted({*tasks, *known_tasks(data_config)}))


def known_tasks(data_config: Mapping[str, Any], named: Iterable[str] = ()) -> set[str]:
    """The names that ``data.sources`` have, besides those of ``data.tasks``.

    ``named``: further names to be tried, as Super-NaturalInstructions has more than can be listed.
    """
    from anamnesis.data.builtin import BUILTIN

    files = find_task_files(data_config.get("root"))
    candidates = {*files, *catalogue(), *BUILTIN, *named}
    return {name for name in candidates if _in_sources(name, data_config, files)}


def _in_sources(name: str, data_config: Mapping[str, Any], files: Mapping[str, Path]) -> TaskSource | None:
    from anamnesis.data.builtin import BUILTIN

    for place in data_config.get("sources") or DEFAULT_SOURCES:
        if place == "folder" and (found := files_of(name, files)):
            return TaskSource(name, "folder", found)
        if place == "hub" and (entry := look_up(name)) and entry.hub:
            return TaskSource(name, "hub")
        if place == "builtin" and name in BUILTIN:
            return TaskSource(name, "built-in")
    return None
