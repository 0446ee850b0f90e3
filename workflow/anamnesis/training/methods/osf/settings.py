"""The settings of orthogonal subspace fine-tuning: plain training of PEFT's adapter of that name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from anamnesis.core.fields import Section, Share
from anamnesis.training.slices import Needs, Slice, list_problems


class Osf(Section):
    """Orthogonal subspace fine-tuning (arXiv 2504.07097), as PEFT has it, of training.lora.target_modules."""

    preserved: Share | tuple[Share, ...] = Field(
        0.5,
        description="Share of each weight's singular directions, the largest first, that stay as they are, "
        "in (0, 1): a number, or a list with one for each stage. PEFT: 0.5. Cost: memory and disk, for the "
        "rest of each weight is trained.",
    )


def problems(settings: Mapping, name: str, stages: int) -> Iterable[str]:
    """A list of another length than the number of stages."""
    return list_problems("osf", settings, name, ["preserved"], stages)


SLICE = Slice(
    colours=("#a05195", "#2f4b7c"), needs=Needs(adapter="new", tuner="osf"), settings=Osf, problems=problems
)
