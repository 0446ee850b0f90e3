"""HP, IP and OP of every method, seed by seed: PDF, PNG and the data shown as CSV."""

from pathlib import Path

from anamnesis.artifacts import read_parquet
from anamnesis.figures.bars import summary_bars
from anamnesis.figures.style import save_figure


def main(frame: str, pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the table ``frame``."""
    data = read_parquet(frame)
    save_figure(summary_bars(data), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.job import run_job

    run_job(snakemake, main)
