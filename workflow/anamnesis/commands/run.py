"""Compute everything of an experiment, then say where it is and print the headline row.

CONFIG is a YAML file or the name of an experiment that comes with Anamnesis (smoke, methods, ...). Later ones
are laid on top of earlier ones, and all on the default experiment. TARGET is a rule (figures, tables,
analyses, vectors, prepare_model) or a file. All else is for Snakemake: -n (say what would be done),
--cores 4, --directory FOLDER, --profile slurm and what else snakemake --help lists.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from anamnesis.commands import reported
from anamnesis.commands.headline import headline
from anamnesis.config.load import load_config
from anamnesis.core.errors import nearest, unknown
from anamnesis.core.repository import (
    DEFAULTS,
    REPOSITORY,
    configuration_file,
    experiments,
    folder_of,
    is_configuration,
)

USAGE = "usage: anamnesis run [CONFIG ...] [TARGET ...] [option of snakemake ...]"
SNAKEFILE, RULES = REPOSITORY / "Snakefile", REPOSITORY / "workflow" / "rules"
ANSWERED = (
    "archive", "cleanup_metadata", "cleanup_shadow", "conda_cleanup_envs", "conda_create_envs_only",
    "containerize", "d3dag", "dag", "delete_all_output", "delete_temp_output", "detailed_summary", "dryrun",
    "filegraph", "generate_unit_tests", "lint", "list_changes", "list_conda_envs", "list_rules",
    "list_target_rules", "omit_from", "print_compilation", "report", "rulegraph", "summary", "touch",
    "unlock", "until",
)  # fmt: skip
"""Options with which Snakemake runs nothing, or not all: results that are there may be older."""


def snakemake_arguments(words: Sequence[str]) -> list[str]:
    """What Snakemake is called with, from the words of the command. Raises UserError for a configuration that
    is none.
    """
    first = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    before, options = words[:first], list(words[first:])
    files = [str(configuration_file(word)) for word in before if is_configuration(word)]
    targets = [word for word in before if not is_configuration(word)]
    for word in targets:
        if nearest(word, experiments()) and word not in _rules():
            raise unknown("configuration file, experiment or target", word, experiments())
    for at, word in enumerate(options[1:], 1):
        if options[at - 1] == "--profile":
            options[at] = str(folder_of("profiles", word))
    # --logger and --configfile take all words up to the next option
    own = ["--logger", "anamnesis", "--snakefile", str(SNAKEFILE)]
    return [*own, *targets, *options, *(["--configfile", *files] if files else [])]


def _rules() -> set[str]:
    texts = [file.read_text(encoding="utf-8") for file in (SNAKEFILE, *RULES.glob("*.smk"))]
    return {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where Snakemake has done what it was told; 1 and one line for a configuration that is bad."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{__doc__ or ''}", end="")
        return 0
    return reported(lambda: _run(words), "configuration")


def _run(words: Sequence[str]) -> int:
    from snakemake import cli

    parser, options = cli.parse_args(snakemake_arguments(words))
    if options.cores is None and options.jobs is None:
        options.cores = cli.parse_cores("all")
    files = [Path(file).absolute() for file in options.configfile]
    # before Snakemake, which would run the expressions of a configuration that asks for it (SECURITY.md)
    config = load_config([DEFAULTS, *files, cli.parse_config(options.config)])
    try:
        done = cli.args_to_api(options, parser)
    except Exception as error:
        cli.print_exception(error)
        return 1
    if done and not options.targets and not any(getattr(options, name, None) for name in ANSWERED):
        with chdir(options.directory or "."):
            print(headline(config), end="")
    return int(not done)
