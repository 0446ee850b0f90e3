"""Accuracy per layer when vectors are added, removed or random (paper App. E): PDF, PNG and the data shown as
CSV.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.intervention_panels import interventions
from anamnesis.figures.style import save_figure


def main(frames: Sequence[str] | str, pdf: str, png: str, csv: str) -> None:
    """Write the figure made from the tables ``frames``, one per set."""
    paths = [frames] if isinstance(frames, str) else frames
    data = pd.concat([read_parquet(path) for path in paths], ignore_index=True)
    save_figure(interventions(data), data, Path(pdf).with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
