"""The figure of effects and outputs of heads within a stage: PDF, PNG and the data shown as CSV."""

from pathlib import Path

from anamnesis.analyses.within_stage.figure import within_stage
from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure


def main(frame: str, unit: str, pdf: str, png: str, csv: str) -> None:
    table = read_parquet(frame)
    save_figure(within_stage(table, unit), table, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
