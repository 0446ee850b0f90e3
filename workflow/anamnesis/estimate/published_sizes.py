"""Lengths of the published sets, for an estimate before their texts are here (``tables/published.csv``).

``python -m anamnesis.estimate.published_sizes FOLDER SNAPSHOT`` measures them again and prints the table:
on a folder of benchmarks (``data.root``), with the tokenizer of a model's snapshot.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from anamnesis.data.catalogue import catalogue
from anamnesis.data.lengths import shorten_inputs, shorten_knowledge
from anamnesis.data.places import files_of, find_task_files
from anamnesis.data.prompts import Template
from anamnesis.data.sources import prepare, split_sizes
from anamnesis.estimate.token_lengths import Lengths, by_tokenizer, lengths_of
from anamnesis.models.loading import load_tokenizer

TABLE = Path(__file__).parent / "tables" / "published.csv"
SIZES = {"train": 5000, "validation": 500, "test": 1000}
"""Examples of a set that count as enough for any experiment: there are as many as are asked for."""
KNOWLEDGE = ("knowledge_prompt", "knowledge_answer", "knowledge_options")
MEASURED = ("instruction", "opening", "question", "answer", "options", "ranked")
LONGEST = 512  # tokens of a prompt, the default of training.max_input_tokens


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(TABLE, index_col="set")


def published_sets() -> frozenset[str]:
    """The sets whose lengths are known."""
    return frozenset(_table().index)


def published(name: str, data: Mapping) -> Lengths | None:
    """The lengths of a published set, None where they are not known; its sizes are those that the section
    ``data`` of the configuration asks for, or all that there are.
    """
    if name not in _table().index:
        return None
    row = _table().loc[name]
    sizes = split_sizes(name, data)
    sizes |= {
        split: min(asked, int(row[split])) for split, asked in sizes.items() if row[split] < SIZES[split]
    }
    knowledge = tuple(float(row[column]) for column in KNOWLEDGE)
    known = sizes["test"] if knowledge[0] else 0
    values = {column: row[column].item() for column in MEASURED}
    return Lengths(**values, **sizes, knowledge=knowledge, known=known)


def measure(root: str, tokenizer) -> pd.DataFrame:
    """The table, of the sets of the catalogue that the folder has."""
    files = find_task_files(root)
    data = {"root": root, "sources": ["folder"], **{f"{split}_examples": n for split, n in SIZES.items()}}
    # the tasks of BBH are too many for a table of this kind
    names = [name for name, entry in catalogue().items() if entry.suite != "BBH" and files_of(name, files)]
    rows = []
    for name in names:
        frame = _shortened(prepare(name, data, 0).frame, tokenizer)
        found = lengths_of(frame, Template(), by_tokenizer(tokenizer))
        # the public translations lack some words: the set is the size of the selection when none is missing
        whole = catalogue()[name].composed_of
        sizes = prepare(whole[0], data, 0).frame["split"].value_counts() if whole else vars(found)
        row = {"set": name} | {column: getattr(found, column) for column in MEASURED}
        row |= dict(zip(KNOWLEDGE, found.knowledge, strict=True)) | {split: sizes[split] for split in SIZES}
        rows.append(row | {"measured_on": len(frame.iloc[:: max(1, len(frame) // 200)])})
    return pd.DataFrame(rows).round(1)


def _shortened(frame: pd.DataFrame, tokenizer) -> pd.DataFrame:
    shorter, _ = shorten_inputs(frame, tokenizer, Template(), LONGEST)
    return shorten_knowledge(shorter, tokenizer, LONGEST)[0]


if __name__ == "__main__":
    folder, snapshot = sys.argv[1:]
    measure(folder, load_tokenizer(Path(snapshot))).to_csv(sys.stdout, index=False)
