"""Compare the tables and figures of an experiment with reference ones, by their data: ``anamnesis compare
REFERENCE [CONFIG ...]``.

REFERENCE is a folder of CSV files, or the name of one that comes with the workflow; CONFIG ... is the
experiment, later files on top of earlier ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from anamnesis.commands import reported
from anamnesis.config.layout import Layout
from anamnesis.config.load import load_experiment
from anamnesis.core.errors import UserError
from anamnesis.core.repository import folder_of

NUMBERED = {"order", "seed", "stage", "shots", "layer", "head", "draw"}
"""Columns of whole numbers that say which row it is; other numbers are values to be compared."""

SAME = 1e-9  # relative: what is lost when numbers are written as text and read again


def compare_tables(found: pd.DataFrame, expected: pd.DataFrame) -> list[str]:
    """What differs, one line each; empty when nothing does.

    Rows are matched by their texts and the columns of ``NUMBERED`` (repeated ones by their order). Of each
    column of numbers: in how many rows it differs, by how much on average and at most, and where.
    """
    lines = []
    for verb, one, other in (("lacks", expected, found), ("has the new", found, expected)):
        if missing := [column for column in one.columns if column not in other.columns]:
            lines.append(f"{verb} column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    shared = [column for column in expected.columns if column in found.columns]
    keys = [c for c in shared if c in NUMBERED or not pd.api.types.is_numeric_dtype(expected[c])]
    values = [column for column in shared if column not in keys]
    both = _indexed(expected, keys, values).merge(
        _indexed(found, keys, values), "outer", [*keys, "_repeat"], suffixes=(" expected", " found"),
        indicator="_side", sort=False,
    )  # fmt: skip
    for side, words in (("left_only", "only in the reference"), ("right_only", "only here")):
        if count := int((both["_side"] == side).sum()):
            lines.append(f"{count} rows {words}, such as {_name(both[both['_side'] == side].iloc[0], keys)}")
    matched = both[both["_side"] == "both"]
    for column in values:
        lines += _differences(matched, column, keys)
    return lines


def _indexed(frame: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """The columns asked for, keys as text, and the number of each row among those with the same keys."""
    chosen = frame[[*keys, *values]].copy()
    for key in keys:
        numbered = pd.api.types.is_numeric_dtype(chosen[key])
        chosen[key] = [("" if pd.isna(x) else f"{x:g}" if numbered else str(x)) for x in chosen[key]]
    groups = chosen.groupby(keys, sort=False) if keys else chosen.assign(_all=0).groupby("_all")
    return chosen.assign(_repeat=groups.cumcount())


def _differences(matched: pd.DataFrame, column: str, keys: list[str]) -> list[str]:
    before, now = (
        pd.to_numeric(matched[f"{column} {side}"], errors="coerce").to_numpy(dtype=float)
        for side in ("expected", "found")
    )
    gap = np.abs(now - before)
    gap = np.where(np.isnan(gap), np.where(np.isnan(before) & np.isnan(now), 0.0, np.inf), gap)
    differs = gap > SAME * np.where(np.isnan(before), 1.0, np.maximum(1.0, np.abs(before)))
    if not differs.any():
        return []
    at = int(gap.argmax())  # a value on one side alone is infinitely far
    known = gap[differs & np.isfinite(gap)]
    mean = f", on average by {known.mean():.3g}" if len(known) else ""
    return [
        f"{column}: {int(differs.sum())} of {len(matched)} rows differ{mean}, most at "
        f"{_name(matched.iloc[at], keys)}: {now[at]:.6g} instead of {before[at]:.6g}"
    ]


def _name(row: pd.Series, keys: list[str]) -> str:
    return ", ".join(f"{key} {row[key]}" for key in keys if row[key] != "")[:200] or f"row {row['_repeat']}"


def compare_folders(suite: Path, reference: Path) -> list[str]:
    """The report on every CSV file of ``reference``: of a figure, or a table of the suite, of its settings
    or of the mechanisms. Raises UserError when there is none.
    """
    files = sorted(reference.glob("*.csv"))
    if not files:
        raise UserError(f"{reference} holds no CSV file: give a folder of reference tables")
    lines, places = [], (suite / "figures", suite, suite / "settings", suite / "mechanisms")
    for file in files:
        own = next((place / file.name for place in places if (place / file.name).exists()), None)
        if own is None:
            lines.append(f"{file.name}: not made in this experiment")
            continue
        differences = compare_tables(pd.read_csv(own), pd.read_csv(file))
        lines.append(f"{file.name}: {'differs' if differences else 'the same'}")
        lines += [f"  {line}" for line in differences]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what differs; 1 and one line of error when nothing can be compared."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print("usage: anamnesis compare REFERENCE [CONFIG ...]")
        return 0 if given else 2
    return reported(lambda: print(*_compared(*given), sep="\n"))


def _compared(reference: str, *words: str) -> list[str]:
    return compare_folders(Layout(load_experiment(words)).experiment, folder_of("reference", reference))


if __name__ == "__main__":
    raise SystemExit(main())
