"""The catalogue: every published data set by name, and the sequences in which the papers learn them.

Commits of hub repositories are pinned where several independent public projects name the same one;
docs/data.md says which are not.
"""

from __future__ import annotations

import re

from anamnesis.data.catalogue import evaluation, training
from anamnesis.data.catalogue.entry import Columns, DataSet, Hub

CATALOGUE: dict[str, DataSet] = {
    entry.name: entry
    for suite in (training.FUNC, training.TRACE, training.LONG, evaluation.HELD_OUT, evaluation.JFA)
    for entry in suite
}
"""Every published data set by name, but those of Super-NaturalInstructions (:func:`natural_instructions`)."""

DEFAULT_ANSWER = 50
"""Tokens of the longest answer of a set that is not in the catalogue."""

NUMBERED = re.compile(r"task0*(?P<number>\d+)(?:_\w+)?")
"""Names of Super-NaturalInstructions tasks: ``task618``, or with what follows in the official name."""


def natural_instructions(number: int) -> DataSet:
    """The task of Super-NaturalInstructions with this number, defined by the instruction in its data."""
    # an underscore ends the number, as task1 is not task10
    files = {"": f"*/task{number:03d}_*.jsonl"}
    columns = Columns("{inputs}", target="{targets}", instruction="definition")
    return DataSet(
        f"task{number:03d}",
        "SuperNI",
        "2204.07705",
        "Apache-2.0 (collection); instances: their own",
        metric="rouge_l",
        max_answer=128,
        epochs=10,
        hub=Hub("Muennighoff/natural-instructions", None, files, columns),
    )


def look_up(name: str) -> DataSet | None:
    """The catalogue's entry of a task, None when it has none."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    match = NUMBERED.fullmatch(name)
    return natural_instructions(int(match["number"])) if match else None


def _tasks(*numbers: int) -> tuple[str, ...]:
    return tuple(f"task{number:03d}" for number in numbers)


SEQUENCES: dict[str, tuple[str, ...]] = {
    "func": (
        "alphabetically_last_of_5", "choose_last_of_5_spanish", "ag_news", "object_v_concept_5_spanish",
        "verb_v_adjective_5_spanish", "sentiment",
    ),
    "trace8-order1": (
        "c_stance", "fomc", "meetingbank", "py150", "scienceqa", "numglue_cm", "numglue_ds", "20minuten",
    ),
    "trace8-order2": (
        "numglue_cm", "numglue_ds", "fomc", "20minuten", "c_stance", "py150", "meetingbank", "scienceqa",
    ),
    "trace6-order1": ("c_stance", "fomc", "meetingbank", "py150", "scienceqa", "numglue_cm"),
    "trace6-order2": ("numglue_cm", "fomc", "c_stance", "py150", "meetingbank", "scienceqa"),
    "long-order4": (
        "mnli", "cb", "wic", "copa", "qqp", "boolq", "rte", "imdb", "yelp", "amazon", "sst2", "dbpedia",
        "agnews", "multirc", "yahoo",
    ),
    "long-order5": (
        "multirc", "boolq", "wic", "mnli", "cb", "copa", "qqp", "rte", "imdb", "sst2", "dbpedia", "agnews",
        "yelp", "amazon", "yahoo",
    ),
    "long-order6": (
        "yelp", "amazon", "mnli", "cb", "copa", "qqp", "rte", "imdb", "sst2", "dbpedia", "agnews", "yahoo",
        "multirc", "boolq", "wic",
    ),
    "ni-g1": _tasks(618, 1290, 589, 511, 1357),
    "ni-c1": _tasks(195, 1343, 1310, 1292, 363),
    "ni-m1": _tasks(360, 363, 1290, 339, 1510),
    "ni-g2": _tasks(1355, 141, 619, 163, 2),
    "ni-c2": _tasks(231, 1343, 220, 224, 273),
    "ni-m2": _tasks(195, 611, 292, 488, 24),
}  # fmt: skip
"""The orders in which the papers learn the sets: FUNC and TRACE (the six of 2406.12227, the eight of
2310.06762), LONG (orders 4 to 6 of 2310.14152), Super-NaturalInstructions (2502.11019)."""
