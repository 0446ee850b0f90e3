"""What the report's sections on analyses are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.report.builder import Picture, Table, picture


@dataclass(frozen=True, slots=True)
class AnalysisResults:
    """Of one analysis: ``frames``, its tables by name, and ``files``, all that the report shows. Of the whole
    run: ``figures``, name -> PNG, their ``captions``, ``curves`` (the accuracy of all chains), ``table``
    (Table 1) and the ``config``.
    """

    frames: Mapping[str, pd.DataFrame]
    figures: Mapping[str, str | Path]
    captions: Mapping[str, str] = field(default_factory=dict)
    curves: pd.DataFrame | None = None
    table: pd.DataFrame | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()

    def picture(
        self,
        name: str,
        alt: str,
        sentences: Sequence[str] = (),
        tables: Sequence[Table] = (),
        chart: Mapping | None = None,
    ) -> Picture:
        return picture(self.figures[name], alt, self.captions.get(name, ""), sentences, tables, chart)
