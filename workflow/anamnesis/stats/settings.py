"""The section ``statistics`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from anamnesis.core.fields import (
    FilePath,
    Integer,
    Number,
    Section,
)


class Statistics(Section):
    """What the tables are made from, and their intervals."""

    bootstrap_resamples: Integer = Field(
        10_000,
        ge=1,
        description="Resamples of the bootstrap: of 40 paired differences or more, of correlations and of "
        "examples (>= 1).",
    )
    confidence: Number = Field(0.95, gt=0, lt=1, description="Coverage of the intervals, in (0, 1).")
    pool: tuple[FilePath, ...] = Field(
        (),
        description="<results>/<model>/<suite>/accuracy.parquet of other runs of this experiment, from the "
        "working directory: their chains (other seeds) join the tables and figures.",
    )
