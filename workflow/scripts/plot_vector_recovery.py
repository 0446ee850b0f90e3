"""What the vectors of the model before training give back after training: PDF, PNG, the data shown, and the
table of gains as CSV.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.core.artifacts import atomic_path, read_parquet
from anamnesis.figures.recovered_accuracy import vector_recovery
from anamnesis.figures.style import save_figure
from anamnesis.stats.vector_recovery import recovery_frame, recovery_gain


def main(
    recovered: Sequence[str] | str,
    interventions: Sequence[str] | str,
    statistics: Mapping[str, Any],
    pdf: str,
    png: str,
    csv: str,
    gains: str,
) -> None:
    """Write the figure and ``gains``. ``recovered``: tables of the rule recover; ``interventions``: tables of
    the same sets before training; ``statistics``: of the intervals.
    """
    frame = recovery_frame(_read(recovered), _read(interventions))
    resamples, confidence = statistics["bootstrap_resamples"], statistics["confidence"]
    save_figure(vector_recovery(frame, resamples, confidence), frame, Path(pdf).with_suffix(""))
    with atomic_path(Path(gains)) as part:
        recovery_gain(frame, confidence, resamples).to_csv(part, index=False, lineterminator="\n")


def _read(paths: Sequence[str] | str) -> pd.DataFrame:
    files = [paths] if isinstance(paths, str) else paths
    return pd.concat([read_parquet(path) for path in files], ignore_index=True)


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
