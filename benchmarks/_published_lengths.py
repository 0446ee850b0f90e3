"""Lengths of the published sets, for an estimate before their texts are here.

``python benchmarks/_published_lengths.py FOLDER SNAPSHOT`` measures them and prints the table
``workflow/anamnesis/estimate/tables/published.csv``: on a folder of sets (``data.root``), with the tokenizer
of a model's snapshot.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from _common import REPOSITORY  # noqa: F401 - finds the library of this checkout

from anamnesis.data.catalogue import catalogue
from anamnesis.data.places import files_of, find_task_files
from anamnesis.data.preparation import prepare
from anamnesis.data.prompts import Template
from anamnesis.data.shortening import shorten_inputs, shorten_knowledge
from anamnesis.estimate.lengths import ENOUGH, KNOWLEDGE, MEASURED, SHOWN, by_tokenizer, lengths_of
from anamnesis.models.loading import load_tokenizer

LONGEST = 512  # tokens of a prompt, the default of training.max_input_tokens


def measure(root: str, tokenizer) -> pd.DataFrame:
    """The table, of the sets of the catalogue that the folder has."""
    files = find_task_files(root)
    data = {"root": root, "sources": ["folder"], **{f"{split}_examples": n for split, n in ENOUGH.items()}}
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
        row |= dict(zip(KNOWLEDGE, found.knowledge, strict=True)) | {split: sizes[split] for split in ENOUGH}
        rows.append(row | {"measured_on": len(frame.iloc[:: max(1, len(frame) // SHOWN)])})
    return pd.DataFrame(rows).round(1)


def _shortened(frame: pd.DataFrame, tokenizer) -> pd.DataFrame:
    shorter, _ = shorten_inputs(frame, tokenizer, Template(), LONGEST)
    return shorten_knowledge(shorter, tokenizer, LONGEST)[0]


if __name__ == "__main__":
    folder, snapshot = sys.argv[1:]
    measure(folder, load_tokenizer(Path(snapshot))).to_csv(sys.stdout, index=False)
