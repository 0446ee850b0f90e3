"""``anamnesis <name> ...``: the commands of this package by their names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("check", "estimate", "watch", "headline", "compare", "export", "export_tasks", "write_config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Call the command with the arguments behind its name; 2 and one line for a name that is none."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if name not in COMMANDS:
        print(f"usage: anamnesis {{{','.join(COMMANDS)}}} ...", file=sys.stderr)
        return 2
    return import_module(f"anamnesis.commands.{name}").main(rest)


if __name__ == "__main__":
    raise SystemExit(main())
