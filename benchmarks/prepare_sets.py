"""Prepare every set of a folder of benchmarks (--data) as the workflow would: time and memory of all.

Besides the files themselves, the sets that the catalogue makes of them are prepared; without --data, the
built-in tasks.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pandas as pd
from _common import Line, main, parser, report, seconds

from anamnesis.core.artifacts import write_parquet
from anamnesis.data.places import known_tasks
from anamnesis.data.preparation import prepare

SECONDS, MEBIBYTES = 60, 2048  # bars
ALL = 10**6  # more rows than any set has


def prepare_all(root: Path | None, seed: int) -> pd.DataFrame:
    """set, seconds, rows, dropped: one row per set, the slowest first."""
    sizes = dict.fromkeys(("train_examples", "validation_examples", "test_examples"), ALL)
    data = {"root": root, "tasks": {}, "sources": ["folder" if root else "builtin"], **sizes}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(known_tasks(data)):

            def work(name=name):
                made = prepare(name, data, seed)
                write_parquet(Path(scratch, f"{name}.parquet"), made.frame)
                rows.append([name, 0.0, len(made.frame), sum(made.dropped.values())])

            spent = seconds(work)
            rows[-1][1] = spent
    return pd.DataFrame(rows, columns=["set", "seconds", "rows", "dropped"]).sort_values(
        "seconds", ascending=False
    )


def run() -> int:
    options = parser(__doc__).parse_args()
    table = prepare_all(options.data, options.seed)
    print(table.head(10).to_string(index=False, float_format="%.2f"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = f"{len(table)} sets, {table.rows.sum()} rows, {table.dropped.sum()} dropped"
    lines = [
        Line("all sets prepared", float(table.seconds.sum()), "s", SECONDS, at_least=False, note=note),
        Line("peak memory, torch loaded", memory, "MiB", MEBIBYTES, at_least=False),
    ]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
