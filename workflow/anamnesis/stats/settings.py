"""The section ``statistics`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from anamnesis.core.fields import FilePath, Integer, Number, Section


class Statistics(Section):
    """What the tables are made from, and their intervals."""

    bootstrap_resamples: Integer = Field(
        10_000,
        ge=1,
        description="Resamples of the bootstrap, an integer >= 1, of 40 paired differences or more (of "
        "fewer the intervals are Student's t) and of correlations and examples. Cost: under a second for "
        "10000.",
    )
    confidence: Number = Field(0.95, gt=0, lt=1, description="Coverage of the intervals, in (0, 1).")
    pool: tuple[FilePath, ...] = Field(
        (),
        description="Files <results>/<model>/<suite>/accuracy.parquet of other runs of this experiment, "
        "whose chains join the tables and figures: seeds made on another computer. Paths are from the "
        "working directory, outside this run's results. All settings but the seeds must be equal; the tasks "
        "and what was evaluated are checked.",
    )
