"""Plain training of one adapter through all stages (TRACE's "lora")."""

from anamnesis.training.slices import Needs, Slice

SLICE = Slice(colours=("#b8860b", "#332288"), needs=Needs(adapter="continued"))
