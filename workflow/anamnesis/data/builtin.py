"""The built-in tasks: seeded generators over the small tables in ``tables/``.

Every table is first cut into disjoint train, validation and test pools, and each split of a task is made
from its own pool only. The cut depends on the seed and the table, not on the task, so tasks that share a
table share the pools too: a word that the held-out translation task asks for in its test split never occurs
in a training list of the other Spanish tasks.

The list tasks and their names follow the function-vector data sets of Todd et al. (2024), the source of the
FUNC suite; all words and texts here are the project's own.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError, unknown
from anamnesis.data.builders import (
    Build,
    Pool,
    Row,
    any_five,
    classification,
    first_letters,
    multiple_choice,
    odd_one,
    pairs,
)

SPLITS = ("train", "validation", "test")
COLUMNS = (
    "split",
    "example_id",
    "instruction",
    "input",
    "target",
    "choices",
    "label",
    "knowledge_prompt",
    "knowledge_target",
    "knowledge_choices",
)
TOPICS = ("World", "Sports", "Business", "Technology")
SENTIMENTS = ("positive", "negative")

_TABLES = Path(__file__).parent / "tables"
_TRAIN_SHARE, _VALIDATION_SHARE = 0.60, 0.15
# Tables cut group by group, so that every pool has its share of each kind of row.
_STRATA = {"words": ("pos", "kind"), "topic_texts": ("topic",), "sentiment_texts": ("label",)}
# Countries whose names take an article inside a sentence.
_WITH_ARTICLE = re.compile(
    "Republic|Islands|United|Bahamas|Comoros|Gambia|Maldives|Netherlands|Philippines|Seychelles"
)


@dataclass(frozen=True)
class BuiltinTask:
    """One built-in task.

    ``build(pool, count, rng)`` makes at most ``count`` examples from the rows of one split's pool. An example
    is a dictionary with ``input`` and ``target`` and, where the task has them, the choice and knowledge
    columns.
    """

    name: str
    instruction: str
    description: str
    kind: Literal["generation", "classification", "multiple_choice"]
    table: str
    build: Build


@cache
def read_table(name: str) -> Pool:
    """The rows of one built-in table, each a dictionary column -> text, in file order.

    Raises UserError when the installation lacks the table.
    """
    path = _TABLES / f"{name}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return tuple(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"built-in table '{path}' is missing: restore it from the repository") from None


def split_pools(table: str, seed: int) -> dict[str, Pool]:
    """Cut a table into disjoint pools: about 60 % train, 15 % validation, 25 % test of each group of rows."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in read_table(table):
        groups.setdefault(tuple(row[column] for column in _STRATA.get(table, ())), []).append(row)
    rng = np.random.default_rng((seed, zlib.crc32(f"{table}.csv".encode())))
    pools: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for group in groups.values():
        shuffled = [group[i] for i in rng.permutation(len(group))]
        first = round(_TRAIN_SHARE * len(group))
        second = first + round(_VALIDATION_SHARE * len(group))
        pools["train"] += shuffled[:first]
        pools["validation"] += shuffled[first:second]
        pools["test"] += shuffled[second:]
    return {split: tuple(rows) for split, rows in pools.items()}


def builtin_task(name: str, seed: int, sizes: Mapping[str, int]) -> pd.DataFrame:
    """The uniform frame of one built-in task, one row per example.

    ``sizes`` gives the largest number of rows per split (train, validation, test); a split not named there is
    left out. The list tasks reach that number; the others give every row of their pool when it holds fewer.
    The examples of a split depend on the seed, the task and the size of that split only. Columns have dtype
    object, with None where they do not apply; ``label`` is a nullable integer.

    Raises UserError for an unknown task or split, a size that is not a positive integer, and a negative seed.
    """
    if name not in BUILTIN:
        raise unknown("task", name, BUILTIN)
    _check(seed, sizes)
    task = BUILTIN[name]
    pools = split_pools(task.table, seed)
    rows = []
    for number, split in enumerate(SPLITS):
        if split not in sizes:
            continue
        rng = np.random.default_rng((seed, zlib.crc32(name.encode()), number))
        for i, example in enumerate(task.build(pools[split], int(sizes[split]), rng)):
            common = {"split": split, "example_id": f"{split}-{i:04d}", "instruction": task.instruction}
            rows.append(dict.fromkeys(COLUMNS) | common | example)
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype({"label": "Int64"})


def _check(seed: int, sizes: Mapping[str, int]) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"seed is {seed!r}: it must be an integer of 0 or more")
    if not sizes:
        raise UserError(f"sizes is empty: give the rows of at least one split of {', '.join(SPLITS)}")
    for split, size in sizes.items():
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size <= 0:
            raise UserError(f"size of split '{split}' is {size!r}: it must be an integer of 1 or more")


def _country(row: Row) -> str:
    name = row["country"]
    return f"the {name}" if _WITH_ARTICLE.search(name) else name


_GENERATION = {
    "alphabetically_last_of_5": (
        "Choose the word that comes last in the alphabet.",
        "Of five English words, the one that comes last in alphabetical order.",
        "words",
        any_five(lambda words: max(row["word"] for row in words)),
    ),
    "choose_last_of_5_spanish": (
        "Translate the last word of the list into Spanish.",
        "The Spanish translation of the last of five English words.",
        "words",
        any_five(lambda words: words[-1]["spanish"]),
    ),
    "object_v_concept_5_spanish": (
        "Find the word that names a physical object and translate it into Spanish.",
        "The Spanish translation of the one concrete object among four abstract concepts.",
        "words",
        odd_one("kind", "object", "concept", "spanish"),
    ),
    "verb_v_adjective_5_spanish": (
        "Find the word that is a verb and translate it into Spanish.",
        "The Spanish translation of the one verb among four adjectives.",
        "words",
        odd_one("pos", "verb", "adjective", "spanish"),
    ),
    "verb_v_adjective_5": (
        "Find the word that is a verb.",
        "The one verb among four adjectives.",
        "words",
        odd_one("pos", "verb", "adjective"),
    ),
    "object_v_concept_5": (
        "Find the word that names a physical object.",
        "The one concrete object among four abstract concepts.",
        "words",
        odd_one("kind", "object", "concept"),
    ),
    "choose_first_of_5": (
        "Choose the first word of the list.",
        "The first of five English words.",
        "words",
        any_five(lambda words: words[0]["word"]),
    ),
    "first_letter": (
        "Write the first letter of the word.",
        "The letter that an English word begins with.",
        "words",
        first_letters("word"),
    ),
    "antonym": (
        "Give the word with the opposite meaning.",
        "The antonym of an English word.",
        "antonyms",
        pairs(
            "word",
            "antonym",
            lambda row: f"The opposite of {row['word']} is",
            lambda row, other: [other["antonym"]],
        ),
    ),
    "past_tense": (
        "Write the verb in the simple past tense.",
        "The simple past of an English verb.",
        "verbs",
        pairs("base", "past"),
    ),
    "plural": (
        "Write the plural of the noun.",
        "The plural of an English noun.",
        "plurals",
        pairs("singular", "plural"),
    ),
    "country_capital": (
        "Name the capital city of the country.",
        "The capital of a country.",
        "countries",
        pairs(
            "country",
            "capital",
            lambda row: f"The capital of {_country(row)} is",
            lambda row, other: [other["capital"]],
        ),
    ),
    "english_spanish": (
        "Translate the word into Spanish.",
        "The Spanish translation of an English noun, verb or adjective.",
        "words",
        pairs("word", "spanish"),
    ),
    "present_participle": (
        "Write the -ing form of the verb.",
        "The present participle of an English verb.",
        "verbs",
        pairs("base", "gerund"),
    ),
    "singular": (
        "Write the singular of the noun.",
        "The singular of an English noun.",
        "plurals",
        pairs("plural", "singular"),
    ),
    "country_continent": (
        "Name the continent of the country.",
        "The continent of a country.",
        "countries",
        pairs("country", "continent"),
    ),
}

_CLASSIFICATION = {
    "news_topic": (
        "Decide whether the topic of the news text is World, Sports, Business or Technology.",
        "The topic of a short news text, one of four.",
        "topic_texts",
        classification("topic", TOPICS),
    ),
    "sentiment": (
        "Decide whether the sentiment of the text is positive or negative.",
        "Whether a short text speaks well or ill of its subject.",
        "sentiment_texts",
        classification("label", SENTIMENTS),
    ),
}

_STATEMENT = itemgetter("statement")
_FACT = multiple_choice(_STATEMENT, _STATEMENT, "answer", ("wrong1", "wrong2", "wrong3"))
_CAPITAL = multiple_choice(
    lambda row: f"What is the capital of {_country(row)}?",
    lambda row: f"The capital of {_country(row)} is",
    "capital",
)
_OPPOSITE = multiple_choice(
    lambda row: f"Which word is the opposite of {row['word']}?",
    lambda row: f"The opposite of {row['word']} is",
    "antonym",
)
_MULTIPLE_CHOICE = {
    "general_facts": (
        "Choose the option that completes the statement and answer with its letter, A, B, C or D.",
        "General knowledge: the right ending of a statement among four.",
        "facts",
        _FACT,
    ),
    "capital_choice": (
        "Answer the question with the letter of the right option, A, B, C or D.",
        "The capital of a country among four capitals.",
        "countries",
        _CAPITAL,
    ),
    "opposite_choice": (
        "Answer the question with the letter of the right word, A, B, C or D.",
        "The antonym of a word among four words.",
        "antonyms",
        _OPPOSITE,
    ),
}

BUILTIN: dict[str, BuiltinTask] = {
    name: BuiltinTask(name, instruction, description, kind, table, build)
    for kind, tasks in (
        ("generation", _GENERATION),
        ("classification", _CLASSIFICATION),
        ("multiple_choice", _MULTIPLE_CHOICE),
    )
    for name, (instruction, description, table, build) in tasks.items()
}
