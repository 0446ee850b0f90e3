"""Packages that an installation may lack, each from an extra: ``pip install "anamnesis[report]"``."""

from __future__ import annotations

EXTRA_OF = {
    "altair": "report",
    "lm_eval": "harness",
    "rich": "workflow",
    "snakemake": "workflow",
    "vl_convert": "report",
}
"""Module -> the extra that installs it."""


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error; with the command to install what is missing, where an extra has it."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRA_OF:
        return error
    command = f"pip install 'anamnesis[{EXTRA_OF[name]}]'"
    return ModuleNotFoundError(f"{name} is not installed: {command}", name=error.name)
