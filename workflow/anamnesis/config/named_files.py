"""Files that the configuration names and a run has yet to read: looked for before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from anamnesis.config.checks import named_tasks
from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.artifacts import read_json
from anamnesis.core.errors import UserError
from anamnesis.core.user_files import no_file_at, no_folder_at
from anamnesis.evaluation.harness.task_files import check_installed, find_tasks
from anamnesis.models.folders import local_weights


def check_named_files(config: Config) -> None:
    """Raise UserError, one line for all, for a model, a task's file, an encoder or a task of
    lm-evaluation-harness that is not there.

    A model and tasks that are prepared are not looked for: a run goes on without what it has read.
    """
    results = Path(config.results)
    problems = [*_model(config, results), *_tasks(config, results), *_encoders(config), *_harness(config)]
    if problems:
        raise UserError("; ".join(problems))


def _model(config: Config, results: Path) -> Iterator[str]:
    source, folder = config.model.source, results / "models" / config.model.name
    kind, _, path = source.partition(":")
    with suppress(UserError):  # the record of another run, or none
        if (
            os.path.isdir(folder)
            and read_json(folder.with_name(f"{folder.name}.json")).get("source") == source
        ):
            return
    if kind == "path":
        try:
            local_weights(path)
        except UserError as error:
            yield str(error)


def _tasks(config: Config, results: Path) -> Iterator[str]:
    for name in sorted(named_tasks(config) & set(config.data.tasks)):
        path = config.data.tasks[name].path
        problem = no_file_at(path)
        if problem and not os.path.exists(results / "tasks" / f"{name}.parquet"):
            yield (
                f"data.tasks.{name}.path = '{path}': {problem}; give its path, absolute or relative to "
                f"{Path.cwd()}"
            )


def _encoders(config: Config) -> Iterator[str]:
    encoders = {resolve(config, name).settings.get("encoder") for name in config.training.methods}
    for encoder in sorted(encoders - {None}):
        kind, _, path = encoder.partition(":")
        if kind == "path" and no_file_at(Path(path, "config.json")):
            yield (
                f"methods.jfa.encoder = '{encoder}': no config.json there; give a folder in Hugging Face "
                "format, or self"
            )


def _harness(config: Config) -> Iterator[str]:
    names, folder = config.evaluation.harness, config.evaluation.harness_folder
    if not names:
        return
    if folder and (problem := no_folder_at(folder)):
        yield f"evaluation.harness_folder = '{folder}': {problem}; give a folder with <task>.yaml"
        return
    try:
        check_installed()
        find_tasks(names, Path(folder) if folder else None)
    except UserError as error:
        yield str(error)
