"""The figures of the open questions: PDF, PNG and the data shown as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anamnesis.analyses.open_questions import guidance_gain as gains
from anamnesis.analyses.open_questions import sufficiency_figure as sufficiencies
from anamnesis.analyses.open_questions import tables
from anamnesis.analyses.open_questions import wordings_figure as worded
from anamnesis.core.artifacts import read_parquet
from anamnesis.figures.style import save_figure


def main(
    guidance_gain: str,
    wordings: str,
    sufficiency: str,
    statistics: Mapping[str, Any],
    pdf: Sequence[str] | str,
    png: Sequence[str] | str,
    csv: Sequence[str] | str,
) -> None:
    """Write three files for each figure of ``pdf``, named after it."""
    chance = statistics["bootstrap_resamples"], statistics["confidence"]

    def draw(name: str):
        if name == "guidance_gain":
            return gains.guidance_gain(frame := tables.mean_gains(read_parquet(guidance_gain))), frame
        if name == "wordings":
            return worded.wordings(frame := tables.wording_accuracy(read_parquet(wordings))), frame
        frame = tables.sufficiency_levels(read_parquet(sufficiency), *chance)
        return sufficiencies.sufficiency(frame, statistics["confidence"]), frame

    for path in map(Path, [pdf] if isinstance(pdf, str) else pdf):
        save_figure(*draw(path.stem), path.with_suffix(""))


if __name__ == "__main__":
    from anamnesis.core.job import run_job

    run_job(snakemake, main)
