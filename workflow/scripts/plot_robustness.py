"""The figure of vectors from few prompts: PDF, PNG and the data shown as CSV."""

from pathlib import Path

from anamnesis.analyses.robustness.figure import robustness
from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure


def main(frame: str, pdf: str, png: str, csv: str) -> None:
    table = read_parquet(frame)
    save_figure(robustness(table), table, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
