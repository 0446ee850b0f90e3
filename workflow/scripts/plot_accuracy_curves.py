"""Accuracy per stage of every set (paper Fig. 3): PDF, PNG and the data shown as CSV."""

from pathlib import Path

import pandas as pd

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.curves import accuracy_curves
from anamnesis.figures.style import save_figure
from anamnesis.stats.held_out import marks


def main(frame: str, held_out: str, pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the tables ``frame`` (accuracy) and ``held_out`` (CSV)."""
    data = read_parquet(frame)
    save_figure(accuracy_curves(data, marks=marks(pd.read_csv(held_out))), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
