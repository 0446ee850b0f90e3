"""The report's sections on analyses that were made on request, from whichever of their tables there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anamnesis.analyses.checkpoints.claims import claims_section
from anamnesis.analyses.checkpoints.section import DynamicsResults, dynamics_section
from anamnesis.analyses.mechanisms.section import mechanisms_section
from anamnesis.analyses.open_questions.section import open_questions_section
from anamnesis.analyses.robustness.section import robustness_section
from anamnesis.analyses.within_stage.section import within_stage_section
from anamnesis.core.artifacts import read_parquet
from anamnesis.report.builder import Section
from anamnesis.report.was_run import settings_section

TRACED = ("alignment", "drift", "conditions", "heads")
OPEN = ("guidance_gain", "wordings", "sufficiency")
SINGLE = {"within_stage": within_stage_section, "robustness": robustness_section}


def sections_on_request(
    files: Sequence[str],
    figures: Mapping[str, str],
    config: Mapping[str, Any],
    curves: pd.DataFrame,
    table: pd.DataFrame,
) -> list[Section]:
    """``files``: tables in folders ``dynamics``, ``settings`` and ``mechanisms``; others are passed over.
    ``figures``: name -> PNG; ``curves``, ``table``: accuracy of all chains, and Table 1.
    """
    dynamics, mechanisms = (
        {Path(file).stem: file for file in files if Path(file).parent.name == folder}
        for folder in ("dynamics", "mechanisms")
    )
    frames = {name: read_parquet(file) for name, file in dynamics.items()}
    settings = [file for file in files if Path(file).parent.name == "settings"]
    sections = []
    if set(TRACED) <= set(frames):
        traced = DynamicsResults(**{n: frames[n] for n in TRACED}, curves=curves, figures=figures)
        sections += [dynamics_section(traced), claims_section(traced, table)]
    sections += [section(frames[name], figures[name]) for name, section in SINGLE.items() if name in frames]
    if set(OPEN) <= set(frames):
        sections.append(open_questions_section(frames, figures, config))
    if mechanisms:
        texts = {name: pd.read_csv(file) for name, file in mechanisms.items()}
        sections.append(mechanisms_section(texts, figures))
    return [*sections, settings_section(settings)] if settings else sections
