"""The report's section on the mechanisms of forgetting: the measures of every method, and five figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from anamnesis.analyses.mechanisms.claims import tabled
from anamnesis.report.builder import Picture, Section, Table

ALTERNATIVES = {
    "interference": "Gradient cosine and conflicting probes along the stages, by matrix and layer",
    "drift": "Similarity and rotation of representations by layer",
    "disruption": "Share of changed heads by depth and by cut-off",
    "landscape": "Top eigenvalue and trace by stage, and a slice of the loss",
    "predictors": "Loss taken by a stage against what may predict it, one panel per predictor",
}


def mechanisms_section(tables: Mapping[str, pd.DataFrame], figures: Mapping[str, str | Path]) -> Section:
    """``tables``: comparison, predictors and claims, as in ``mechanisms/``. ``figures``: name, such as
    ``mechanisms_drift``, -> PNG, with its caption in a ``.txt`` file beside it.
    """
    pictures = []
    for name, alternative in ALTERNATIVES.items():
        png = Path(figures[f"mechanisms_{name}"])
        links = {"PDF": png.with_suffix(".pdf"), "PNG": png, "data (CSV)": png.with_suffix(".csv")}
        caption = png.with_suffix(".txt").read_text(encoding="utf-8").strip()
        pictures.append(Picture(png, alternative, caption, links=links))
    shown = tabled(tables["comparison"], tables["predictors"], tables["claims"])
    texts = [Table(t.header, t.rows, f"{t.title}. {t.note}", kind="text") for t in shown]
    return Section("Mechanisms of forgetting", tables=texts, pictures=pictures)
