"""Differences between methods, chain by chain, with their intervals: PDF, PNG and the data shown as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.paired_differences import comparisons, comparisons_frame
from anamnesis.figures.style import save_figure


def main(
    frame: str,
    compared: Sequence[Mapping[str, str]],
    statistics: Mapping[str, Any],
    pdf: str,
    png: str,
    csv: str,
) -> None:
    """Write the figure made from the table ``frame``. ``compared``: which methods, besides guided and plain
    ones. ``statistics``: of the intervals.
    """
    data = comparisons_frame(read_parquet(frame), compared)
    figure = comparisons(data, statistics["bootstrap_resamples"], statistics["confidence"])
    save_figure(figure, data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
