"""Figures as pure functions from a frame to a matplotlib figure, in one style; no file is read here."""

from anamnesis.figures.bars import summary_bars
from anamnesis.figures.comparisons import comparisons, comparisons_frame
from anamnesis.figures.curves import accuracy_curves
from anamnesis.figures.heads import head_effects
from anamnesis.figures.interventions import interventions
from anamnesis.figures.style import method_colour, save_figure
from anamnesis.figures.twins import twins
from anamnesis.figures.variants import variants, variants_frame
from anamnesis.figures.vector_recovery import vector_recovery

__all__ = [
    "accuracy_curves",
    "comparisons",
    "comparisons_frame",
    "head_effects",
    "interventions",
    "method_colour",
    "save_figure",
    "summary_bars",
    "twins",
    "variants",
    "variants_frame",
    "vector_recovery",
]
