"""The settings of elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from anamnesis.core.fields import Integer, Number, Section
from anamnesis.training.slices import Needs, Slice


class Ewc(Section):
    """Elastic weight consolidation (arXiv 1612.00796): one adapter through all stages."""

    rank: Integer | None = Field(
        None,
        ge=1,
        description="Rank of the adapter, >= 1, with alpha raised alike; null: training.lora.rank. "
        "Paper: 48 (TRACE, FUNC) or 60 (LONG).",
    )
    strength: Number = Field(
        4000.0,
        ge=0,
        description="lambda of lambda/2 sum F (theta - theta*)^2, >= 0. Authors' code: 4000, without the "
        "half.",
    )
    fisher_examples: Integer = Field(
        50,
        ge=1,
        description="Training examples the Fisher information is averaged over, >= 1. Authors' code: 51 "
        "batches. Cost: one backward pass each at the end of a stage.",
    )
    merge: Literal["sum", "mean", "online"] = Field(
        "sum",
        description="Several tasks: sum (a penalty for each), mean (of old and new; authors' code) or online "
        "(decay * old + new).",
    )
    decay: Number = Field(0.9, ge=0, le=1, description="Weight of the old one when merged online, in [0, 1].")


def extra_work(stage: Any, settings: Mapping) -> Any:
    """Gradients of the examples that the Fisher information is averaged over."""
    share = min(1.0, settings["fisher_examples"] / max(1, stage.task.train))
    return stage.trained(share * stage.once.tokens, share * stage.once.rows)


SLICE = Slice(
    colours=("#e69f00", "#117733"), needs=Needs(adapter="continued"), settings=Ewc, extra_work=extra_work
)
