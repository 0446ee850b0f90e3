"""The task files of lm-evaluation-harness: which there are, and that a user's folder has no code in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from anamnesis.core.errors import UserError, first_line, nearest, show_value

READERS = ("json", "parquet", "csv", "text", "arrow")
"""What ``dataset_path`` may read files with; others of the library datasets unpickle or unpack."""


def find_tasks(names: Sequence[str], folder: Path | None):
    """The harness's manager of tasks that knows ``names``. Its own list, of some ten thousand files, is read
    only for names that the folder does not have.
    """
    from lm_eval.tasks import TaskManager

    if folder is not None:
        check_folder(folder)
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        if all(_is_complete(name, manager.task_index) for name in names):
            return manager
    manager = TaskManager(include_path=str(folder) if folder else None)
    for name in names:
        if name not in manager.all_tasks:
            close = nearest(name, manager.all_tasks)
            hint = f"did you mean '{close}'? " if close else ""
            raise UserError(
                f"evaluation.harness: unknown task '{name}' of lm-evaluation-harness: {hint}`lm_eval "
                "ls tasks` lists them; tasks of your own are found in evaluation.harness_folder"
            )
    return manager


def _is_complete(name: object, index: Mapping) -> bool:
    """Whether a task, or all members of a group, are among those of ``index``."""
    entry = index.get(name) if isinstance(name, str) else None  # a group may change a task
    members = (entry.cfg or {}).get("task") if entry else None
    return entry is not None and all(
        _is_complete(part, index) for part in (members if isinstance(members, list) else ())
    )


def check_installed() -> None:
    """Raise UserError where lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError(
            "evaluation.harness: lm-evaluation-harness is not installed: pip install 'anamnesis[harness]'"
        )


def check_folder(folder: Path) -> None:
    """Raise UserError unless ``folder`` holds task files, and files that name no code, with all that they
    include.
    """
    files = sorted(folder.glob("**/*.yaml"))
    if not files:
        raise UserError(
            f"evaluation.harness_folder = '{folder}': no task files there; give a folder with <task>.yaml"
        )
    seen: set[Path] = set()
    for file in files:
        _check_file(file, seen)


def _check_file(file: Path, seen: set[Path]) -> None:
    file = file.resolve()
    if file in seen:
        return
    seen.add(file)
    try:
        text = file.read_text(encoding="utf-8")
        tags = {getattr(event, "tag", None) for event in yaml.parse(text)} - {None, "!"}
        content = {} if tags else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"evaluation.harness_folder: {file} cannot be read ({first_line(error)}); correct it"
        ) from error
    if tags:
        raise UserError(
            f"evaluation.harness_folder: {file} has {', '.join(sorted(tags))}, which runs its author's code; "
            "write what it does as a template, or install the task with lm-eval"
        )
    if not isinstance(content, dict):
        return
    for problem in _problems(content):
        raise UserError(f"evaluation.harness_folder: {file}: {problem}")
    included = content.get("include") or []
    for name in included if isinstance(included, list) else [included]:
        _check_file(file.parent / str(name), seen)


def _problems(content: object) -> Iterator[str]:
    """Of what a file says, at any depth, as groups have settings for their members."""
    if isinstance(content, list):
        for part in content:
            yield from _problems(part)
    if not isinstance(content, dict):
        return
    path = content.get("dataset_path")
    if path is not None and not (path in READERS or (isinstance(path, str) and path.count("/") == 1)):
        yield (
            f"dataset_path = {show_value(path)}: must be {', '.join(READERS)}, or <owner>/<name> of the "
            "Hugging Face hub"
        )
    if content.get("unsafe_code"):
        yield "unsafe_code = true: code that a model writes is not run here; take another task"
    for part in content.values():
        yield from _problems(part)
