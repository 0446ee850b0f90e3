"""What the settings of a method change: PDF, PNG and the data shown as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure
from anamnesis.figures.variants import variants, variants_frame


def main(frame: str, comparisons: Sequence[Mapping[str, Any]], pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the table ``frame``. ``comparisons``: which methods stand together."""
    data = variants_frame(read_parquet(frame), comparisons)
    save_figure(variants(data), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
