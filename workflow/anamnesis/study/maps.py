"""Causal effects of heads as an array with named axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError, unknown
from anamnesis.stats.chart_tables import head_intervals
from anamnesis.vectors.ranking import EFFECT_COLUMNS, rank_heads

COLUMN = {"probability": "effect", "log_probability": "log_effect"}
"""Of the tables of effects, by their scale."""


@dataclass(frozen=True)
class Effects:
    """Causal effect of every head on every prompt: change of P(answer), or of its logarithm, when its output
    at the last prompt token is replaced by its mean over the task (arXiv 2406.12227, eq. 2).

    ``tables``: those of ``vectors.effects.causal_effects`` by the task's name; ``scale``: "probability" or
    "log_probability". Means count each task the same; intervals are Student's over prompts, at 95 %.
    """

    tables: Mapping[str, pd.DataFrame]
    scale: str = "probability"
    axes: ClassVar[tuple[str, str, str]] = ("prompt", "layer", "head")

    @property
    def values(self) -> np.ndarray:
        """(n_prompts, n_layers, n_heads) float64, in the order of :attr:`prompts`."""
        rows = self._rows()
        return rows[COLUMN[self.scale]].to_numpy().reshape(-1, *self.mean().shape)

    @property
    def prompts(self) -> pd.DataFrame:
        """The prompts of :attr:`values`: ``task, prompt_id``."""
        return self._rows()[["task", "prompt_id"]].drop_duplicates(ignore_index=True)

    def mean(self) -> pd.DataFrame:
        """Mean over prompts: rows ``layer``, columns ``head``."""
        return self._map("effect")

    def interval(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The interval of the mean, (low, high), each of the form of :meth:`mean`; NaN of a single prompt."""
        return self._map("low"), self._map("high")

    def top(self, count: int = 10) -> pd.DataFrame:
        """The heads with the largest mean effects: ``layer, head, effect, low, high``."""
        return self._ranked()[["layer", "head", "effect", "low", "high"]].head(count)

    def of(self, task: str) -> Effects:
        """Those of one task. Raises UserError for a name that is none."""
        if task not in self.tables:
            raise unknown("task", task, self.tables)
        return replace(self, tables={task: self.tables[task]})

    def __post_init__(self) -> None:
        if self.scale not in COLUMN:
            raise unknown("scale", self.scale, COLUMN)
        if not self.tables:
            raise UserError("tables is empty: give those of causal_effects by the task's name")

    def _rows(self) -> pd.DataFrame:
        rows = pd.concat([table.assign(task=task) for task, table in self.tables.items()])
        return rows.sort_values(["task", *EFFECT_COLUMNS[:3]], ignore_index=True)

    def _ranked(self) -> pd.DataFrame:
        return head_intervals(rank_heads(dict(self.tables), self.scale, top=1))

    def _map(self, column: str) -> pd.DataFrame:
        return self._ranked().pivot(index="layer", columns="head", values=column)
