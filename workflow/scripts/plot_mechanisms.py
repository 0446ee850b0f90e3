"""One figure of the mechanisms of forgetting: PDF, PNG, the data shown as CSV, and its caption."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from anamnesis.analyses.mechanisms import figure as mechanisms
from anamnesis.analyses.mechanisms import forgetting_figure as forgetting
from anamnesis.analyses.mechanisms.sentences import measure_caption, predictors_caption
from anamnesis.core.artifacts import read_parquet, write_text
from anamnesis.figures.style import save_figure


def main(
    figure: str,
    frame: str,
    comparison: str,
    predictors: str,
    cutoffs: Mapping[str, float],
    pdf: str,
    png: str,
    csv: str,
    caption: str,
) -> None:
    """Draw ``figure`` from the table ``frame``; ``comparison`` and ``predictors`` (CSV) have its numbers."""
    data, associations = read_parquet(frame), pd.read_csv(predictors)
    said = predictors_caption(associations) if figure == "predictors" else None
    if figure == "interference":
        data = mechanisms.interference_data(data)
        drawn = mechanisms.interference(data)
    elif figure == "drift":
        drawn = mechanisms.drift(data)
    elif figure == "disruption":
        data = mechanisms.disruption_data(data)
        drawn = mechanisms.disruption(data, cutoffs)
    elif figure == "landscape":
        drawn = forgetting.landscape(data)
    else:
        drawn = forgetting.predictors(data, associations)
    save_figure(drawn, data, Path(pdf).with_suffix(""))
    write_text(caption, f"{said or measure_caption(figure, pd.read_csv(comparison))}\n")


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
