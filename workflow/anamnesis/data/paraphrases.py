"""Other wordings of the built-in tasks' instructions, on which no model was trained; this project's own."""

from __future__ import annotations

from anamnesis.data.builtin import read_table


def builtin_paraphrases() -> dict[str, tuple[str, ...]]:
    """Task -> its instruction in other words, of the table ``tables/paraphrases.csv``."""
    found: dict[str, list[str]] = {}
    for row in read_table("paraphrases"):
        found.setdefault(row["task"], []).append(row["instruction"])
    return {task: tuple(wordings) for task, wordings in found.items()}
