"""Write tables of one kind below each other, each with its place in front where it has one."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anamnesis.analyses.checkpoints.tables import labelled
from anamnesis.core.artifacts import read_parquet, write_parquet


def main(parts: Sequence[str] | str, table: str, places: Sequence[Mapping[str, Any]] = ()) -> None:
    """``places``: of ``parts``, in that order, or none."""
    frames = [read_parquet(path) for path in ([parts] if isinstance(parts, str) else parts)]
    joined = labelled(frames, places) if places else pd.concat(frames, ignore_index=True)
    write_parquet(table, joined)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
