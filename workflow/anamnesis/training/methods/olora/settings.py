"""The settings of orthogonal low-rank adaptation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from anamnesis.core.fields import NotNegative, Section
from anamnesis.training.slices import Slice, list_problems


class Olora(Section):
    """Orthogonal low-rank adaptation (arXiv 2310.14152)."""

    lambda1: NotNegative | tuple[NotNegative, ...] = Field(
        0.5,
        description="Weight of the overlap with earlier adapters, >= 0: a number, or a list with one for "
        "each stage. Its authors: 0.5, up to 5.",
    )
    lambda2: NotNegative | tuple[NotNegative, ...] = Field(
        0.0,
        description="Weight of the new adapter's norm, >= 0: a number or a list. Its authors: 0 to 0.3.",
    )


def problems(settings: Mapping, name: str, stages: int) -> Iterable[str]:
    """Lists of another length than the number of stages."""
    return list_problems("olora", settings, name, ["lambda1", "lambda2"], stages)


SLICE = Slice(colours=("#a3a500", "#882255"), settings=Olora, problems=problems)
