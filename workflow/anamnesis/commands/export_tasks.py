"""Write prepared sets as tasks of lm-evaluation-harness: ``anamnesis export_tasks [CONFIG ...] --to
FOLDER``.

``lm_eval --include_path FOLDER --tasks anamnesis`` then asks any model the same questions, in the words of
the configuration. The package itself is not needed to write them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anamnesis.commands import reported
from anamnesis.config.layout import Layout
from anamnesis.config.load import load_experiment
from anamnesis.config.models import Config
from anamnesis.config.prepared_tasks import PreparedTasks, suite_sets
from anamnesis.core.artifacts import read_parquet
from anamnesis.core.errors import UserError, first_line, unknown
from anamnesis.data.chat import template_for


def export_tasks(config: Config, to: Path, names: Sequence[str] = ()) -> list[str]:
    """Write the sets ``names`` (none: all of the suite) to the folder ``to``, in the forms of the
    configuration, zero-shot and few-shot; returns the names of the tasks.

    Inputs stay whole, as their length depends on a model. A chat template is the harness's business. Raises
    UserError for a set that is not prepared, and for demonstrations that differ between questions.
    """
    from anamnesis.evaluation.harness.export import write_set

    asked = config.evaluation
    if asked.demonstration_draws > 1:
        raise UserError(
            f"evaluation.demonstration_draws = {asked.demonstration_draws}: a task file has one draw of "
            "demonstrations; set it to 1"
        )
    prepared, template = PreparedTasks(config), template_for(config.prompts.model_dump(), None)
    names = list(names) or suite_sets(config)
    for name in names:
        if name not in suite_sets(config) and not Layout(config).task_files([name])[0].exists():
            raise unknown("set", name, suite_sets(config))
    files = dict(zip(names, Layout(config).task_files(names), strict=True))
    if missing := [name for name, file in files.items() if not file.exists()]:
        raise UserError(
            f"not prepared yet: {', '.join(missing)}; run `snakemake --cores 1 {files[missing[0]]}` first, "
            "or name prepared sets after --sets"
        )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to {to} cannot be a folder ({first_line(error)}): name another") from error
    return [
        task
        for name, file in files.items()
        for task in write_set(
            name,
            read_parquet(file),
            to,
            template,
            asked.forms,
            (0, asked.shots),
            config.seed,
            prepared.answer_length(name),
        )
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them as the command line says; 1 and one line of error for what cannot be written."""
    parser = argparse.ArgumentParser(
        prog="anamnesis export_tasks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("config", nargs="*", help="files or names of experiments, later ones on top")
    parser.add_argument("--to", type=Path, required=True, help="folder for the task files and their data")
    parser.add_argument("--sets", nargs="+", default=[], help="default: all of the suite")
    options = parser.parse_args(arguments)
    return reported(lambda: _exported(options))


def _exported(options: argparse.Namespace) -> None:
    tasks = export_tasks(load_experiment(options.config), options.to, options.sets)
    print(f"{options.to}: {len(tasks)} tasks, {', '.join(tasks)}")
    print(f"lm_eval --include_path {options.to} --tasks anamnesis asks them all")


if __name__ == "__main__":
    raise SystemExit(main())
