"""Other wordings of the built-in tasks' instructions, on which no model was trained; this project's own."""

from __future__ import annotations

import csv
from pathlib import Path

# Not among the tables of the tasks, which are made again when one of those changes.
TABLE = Path(__file__).parent / "wordings" / "paraphrases.csv"


def builtin_paraphrases() -> dict[str, tuple[str, ...]]:
    """Task -> its instruction in other words."""
    found: dict[str, list[str]] = {}
    with TABLE.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            found.setdefault(row["task"], []).append(row["instruction"])
    return {task: tuple(wordings) for task, wordings in found.items()}
