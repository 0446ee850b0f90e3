"""Mean causal effect of every head: PDF, PNG and the data shown as CSV."""

from pathlib import Path

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.heads import head_effects
from anamnesis.figures.style import save_figure


def main(frame: str, unit: str, pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the table ``frame``. ``unit``: the scale the heads were ranked on."""
    data = read_parquet(frame)
    save_figure(head_effects(data, unit), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
