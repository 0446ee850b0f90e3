"""``anamnesis <name> ...``: the commands of this package by their names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from anamnesis.core.errors import unknown
from anamnesis.core.extras import explained
from anamnesis.core.repository import REPOSITORY

COMMANDS = {
    "run": "compute everything of an experiment, then print the headline row",
    "check": "check a configuration, running nothing in it",
    "estimate": "what an experiment will cost, here or on a named device",
    "watch": "how far a run is, while it goes on",
    "headline": "where results are, and the first numbers",
    "compare": "tables and figures with reference ones",
    "export": "one model, or one adapter, from a chain",
    "export_tasks": "prepared sets as tasks of lm-evaluation-harness",
    "crate": "an RO-Crate of a finished experiment",
    "write_config": "for developers: config.yaml, its schema and its page, from the settings",
}


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  {name:<13} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: anamnesis COMMAND ...", "", *lines, "", "anamnesis COMMAND --help says more."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Call the command with the arguments behind its name; 2 and one line for a name that is none."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else 2
    if name in ("-V", "--version"):
        print(f"anamnesis {version('anamnesis')}, with the workflow in {REPOSITORY}")
        return 0
    if name not in COMMANDS:
        print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return import_module(f"anamnesis.commands.{name}").main(rest)
    except ModuleNotFoundError as error:
        if (said := explained(error)) is error:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
