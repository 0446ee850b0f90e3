"""Plain training with a new adapter for each stage, the earlier ones merged (arXiv 2406.12227)."""

from anamnesis.training.slices import Slice

SLICE = Slice(colours=("#d55e00", "#0072b2"))
