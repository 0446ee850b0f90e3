"""Check configuration files, running nothing of theirs: ``anamnesis check [CONFIG ...]``.

Snakemake itself runs the expressions of a file with ``__use_yte__: true``; here such a file is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from anamnesis.commands import reported
from anamnesis.config.load import load_experiment
from anamnesis.config.named_files import check_named_files


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the files, later ones on top of earlier ones, make a valid configuration and what it names is
    there; else 1 and one line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print("usage: anamnesis check [CONFIG ...]")
        return 0
    return reported(lambda: check_named_files(load_experiment(words)), "configuration")


if __name__ == "__main__":
    raise SystemExit(main())
