"""Small task files and configurations for the tests of the data modules."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from anamnesis.data.preparation import load_task

REPOSITORY = Path(__file__).parents[2]
ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]


def settings(root=None, tasks=None, train=200, validation=100, test=60):
    sizes = {"train_examples": train, "validation_examples": validation, "test_examples": test}
    return {"root": None if root is None else str(root), "tasks": tasks or {}, **sizes}


def write_folder_task(root, name, rows):
    """A benchmark file of (split, input, target, extra columns) rows."""
    path = root / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = {"choices": None, "label": None}
    cells = [blank | {"split": s, "input": x, "target": y} | extra for s, x, y, extra in rows]
    pd.DataFrame(cells).to_parquet(path, index=False)
    return path


def free_rows(**extra):
    rows = [("train", f"train {i}", f"answer {i}", extra) for i in range(20)]
    return [*rows, ("validation", "v", "answer", extra), ("test", "t", "answer", extra)]


def load_user(path, instruction="Do it.", seed=0, sizes=None, **keys):
    entry = {"path": str(path), "instruction": instruction, **keys}
    return load_task("mine", settings(tasks={"mine": entry}, **(sizes or {})), seed)


def write_csv(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def write_jsonl(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def animal_rows(**extra):
    return [{"input": animal, "target": animal.upper(), **extra} for animal in ANIMALS]


def by_row(frame):
    """The rows by the number of the row in the file."""
    return {int(row.example_id.split("-")[1]): row for row in frame.itertuples()}


def option_rows():
    options = [["red", "blue", "green"], ["Paris", "Rome", "Bonn"], ["one", "two", "six"]]
    rows = []
    for i, choices in enumerate(options):
        extra = {"choices": choices, "label": i}
        rows += [
            (split, f"{split} question {i}", choices[i], extra) for split in ("train", "validation", "test")
        ]
    return rows
