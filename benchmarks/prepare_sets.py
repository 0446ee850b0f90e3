"""Prepare every set of a folder of benchmarks as the workflow would: seconds and memory of all together.

    python benchmarks/prepare_sets.py --data <folder>

Sets composed of two files, and Super-NaturalInstructions by number, are prepared besides the files themselves.
"""

from __future__ import annotations

import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from _common import Line, finish, parser

from anamnesis.artifacts import write_parquet
from anamnesis.data.folder import find_task_files
from anamnesis.data.places import known_tasks
from anamnesis.data.sources import prepare

SECONDS, MEBIBYTES = 60, 2048
ALL = 10**9  # more rows than any set has


def measure(root: Path) -> tuple[pd.DataFrame, float]:
    """(one row per set: name, kind, seconds, rows, dropped; the largest memory of this process, MiB)."""
    data = {"root": str(root), "tasks": {}, "sources": ["folder"]}
    data |= {f"{split}_examples": ALL for split in ("train", "validation", "test")}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted({*find_task_files(str(root)), *known_tasks(data)}):
            started = time.perf_counter()
            made = prepare(name, data, seed=0)
            write_parquet(Path(scratch, f"{name}.parquet"), made.frame)
            seconds, dropped = time.perf_counter() - started, sum(made.dropped.values())
            rows.append((name, len(made.source.files), seconds, len(made.frame), dropped))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pd.DataFrame(rows, columns=["set", "files", "seconds", "rows", "dropped"]), memory
