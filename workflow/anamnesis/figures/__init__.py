"""Figures as pure functions from a frame to a matplotlib figure, in one style; no file is read here."""

from anamnesis.figures.bars import summary_bars
from anamnesis.figures.curves import accuracy_curves
from anamnesis.figures.heads import head_effects
from anamnesis.figures.intervention_panels import interventions
from anamnesis.figures.paired_differences import comparisons, comparisons_frame
from anamnesis.figures.recovered_accuracy import vector_recovery
from anamnesis.figures.style import method_colour, save_figure
from anamnesis.figures.twins import twins
from anamnesis.figures.variants import variants, variants_frame

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
