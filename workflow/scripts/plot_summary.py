"""HP, IP, knowledge and OP of every method, seed by seed: PDF, PNG and the data shown as CSV."""

from pathlib import Path

import pandas as pd

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.bars import summary_bars
from anamnesis.figures.style import save_figure


def main(frame: str, held_out: str, pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the tables ``frame`` (measures of chains) and ``held_out`` (CSV)."""
    data = read_parquet(frame)
    save_figure(summary_bars(data, pd.read_csv(held_out)), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
