"""Other wordings of the built-in tasks' instructions, on which no model was trained; this project's own."""

from __future__ import annotations

import csv
from pathlib import Path

# In a folder of its own: a change in the folder `tables` makes all built-in tasks again.
TABLE = Path(__file__).parent / "wordings" / "paraphrases.csv"


def builtin_paraphrases() -> dict[str, tuple[str, ...]]:
    """Task -> its instruction in other words."""
    wordings: dict[str, list[str]] = {}
    with TABLE.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            wordings.setdefault(row["task"], []).append(row["instruction"])
    return {task: tuple(texts) for task, texts in wordings.items()}
