"""What the report's sections are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.report.answers import Answers
from anamnesis.report.builder import Picture, Section, Table, picture
from anamnesis.report.run_facts import value_at


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


@dataclass(frozen=True, slots=True)
class ExperimentResults:
    """Everything a report shows.

    config : the checked configuration as plain values. table, curves, heads, interventions : frames as
    written by the workflow (interventions None when none were run). figures : name -> PNG (summary,
    guidance_effect, comparisons, variants, accuracy_curves, head_effects, interventions); the PDF and CSV
    next to each are linked. captions : name -> text below the figure. variants : what their figure shows
    (``figures.variant_panels.variants_frame``). paired : of methods chain by chain
    (``stats.comparisons.comparison_table``). records : name -> provenance record. prompts :
    ``task, kind, text, target``, a few to show. held_out : what held-out sets lost, one by one
    (``stats.held_out``). reference : published Table 1. links : label -> file, for the tables. further :
    sections of analyses that were made on request. recovered : what vectors give back after training
    (``stats.vector_recovery.recovery_gain``; the figure is vector_recovery). answers : which answers changed
    (``stats.answer_changes``). task_effects : of every head and task (``stats.chart_tables``). measures : of
    every chain. warnings : of jobs (``core.run_warnings``).
    """

    config: Mapping
    table: pd.DataFrame
    curves: pd.DataFrame
    heads: pd.DataFrame
    figures: Mapping[str, str | Path]
    captions: Mapping[str, str] = field(default_factory=dict)
    interventions: pd.DataFrame | None = None
    variants: pd.DataFrame | None = None
    records: Mapping[str, Mapping] = field(default_factory=dict)
    paired: pd.DataFrame | None = None
    prompts: pd.DataFrame | None = None
    reference: pd.DataFrame | None = None
    held_out: pd.DataFrame | None = None
    links: Mapping[str, str | Path] = field(default_factory=dict)
    further: Sequence[Section] = ()
    recovered: pd.DataFrame | None = None
    answers: Answers | None = None
    answer_links: Mapping[str, str | Path] = field(default_factory=dict)
    task_effects: pd.DataFrame | None = None
    measures: pd.DataFrame | None = None
    warnings: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def confidence(self) -> float:
        found = value_at(self.config, "statistics.confidence")
        return 0.95 if found is None else float(found)

    def picture(
        self, name: str, alt: str, said: Sequence[str] = (), chart: Mapping | None = None
    ) -> list[Picture]:
        """The figure, if the run has it."""
        if name not in self.figures:
            return []
        return [picture(self.figures[name], alt, self.captions.get(name, ""), said, chart=chart)]
