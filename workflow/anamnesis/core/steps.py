"""Inputs read, and results written, by the endings of their names: for the scripts that serve many rules."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import read_json, read_parquet, read_tensors, write_parquet, write_text

_READERS = {
    ".parquet": read_parquet,
    ".csv": pd.read_csv,
    ".json": read_json,
    ".safetensors": read_tensors,
}


def listed(paths: Sequence[str] | str) -> list[str]:
    """A list of paths, which Snakemake may hand over as the only one."""
    return [paths] if isinstance(paths, str) else list(paths)


def loaded(arguments: Mapping[str, Any], inputs: Mapping[str, bool]) -> dict[str, Any]:
    """``arguments`` with the contents of files in the place of their paths. ``inputs``: those that are paths,
    and whether each is a list of them. Folders stay paths.
    """
    contents = dict(arguments)
    for name in inputs.keys() & arguments.keys():
        files = [_READERS.get(Path(path).suffix, str)(path) for path in listed(arguments[name])]
        contents[name] = files if inputs[name] else files[0]
    return contents


def store(path: str | Path, content: pd.DataFrame | str) -> None:
    """A frame as parquet or CSV, or a text."""
    if isinstance(content, pd.DataFrame):
        if Path(path).suffix == ".parquet":
            return write_parquet(path, content)
        content = _as_csv(content)
    write_text(path, content)


def _as_csv(frame: pd.DataFrame) -> str:
    """All texts in quotes where one has a carriage return: csv quotes line ends of the file's kind only, and
    a reader would end the row there.
    """
    texts = frame.select_dtypes(["object", "str"]).astype(str)
    broken = any(texts[name].str.contains("\r", regex=False).any() for name in texts)
    return frame.to_csv(
        index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL
    )


def store_all(paths: Sequence[str] | str, contents: Sequence | pd.DataFrame | str) -> None:
    """One content, or as many as there are paths."""
    if isinstance(contents, pd.DataFrame | str):
        contents = [contents]
    for path, content in zip(listed(paths), contents, strict=True):
        store(path, content)
