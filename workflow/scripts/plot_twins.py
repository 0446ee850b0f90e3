"""What guidance changes, method by method and chain by chain: PDF, PNG and the data shown as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure
from anamnesis.figures.twins import twins


def main(frame: str, statistics: Mapping[str, Any], pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the table ``frame``. ``statistics``: of the intervals."""
    data = read_parquet(frame)
    figure = twins(data, statistics["bootstrap_resamples"], statistics["confidence"])
    save_figure(figure, data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
