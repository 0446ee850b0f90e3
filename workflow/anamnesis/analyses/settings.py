"""What is measured inside trained models, beyond their accuracy: the section ``analyses``.

"Paper" is arXiv 2406.12227.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.analyses.robustness.settings import Robustness
from anamnesis.analyses.shift.settings import Shift
from anamnesis.analyses.within_stage.settings import WithinStage
from anamnesis.core.fields import Integer, Name, Section, Seed, Text


class Analyses(Section):
    """How instruction vectors and heads change through the stages (paper section 3.3, App. F)."""

    methods: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Methods followed, of training.methods; null: all of them without latent tasks. "
        "Cost: one job per stage and chain.",
    )
    seeds: tuple[Seed, ...] | None = Field(
        None, min_length=1, description="Seeds followed, of training.seeds; null: the first."
    )
    stages: tuple[Annotated[Integer, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="Stages looked at besides 0, counted from 1; null: every stage."
    )
    sets: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks and held-out sets of the suite; null: interventions.sets, "
        "as far as they are of the suite, or else the held-out sets.",
    )
    interventions: tuple[Name, ...] | None = Field(
        None,
        description="Tasks and held-out sets of the suite on which vectors are added and removed layer by "
        "layer, beside interventions.sets; may be empty; null: held-out sets, then tasks, as far as it takes "
        "to have four in all (paper: four). Cost: as there.",
    )
    examples: Integer = Field(
        16, ge=1, description="At most so many test examples per set, and validation examples (>= 1)."
    )
    layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None, min_length=1, description="Layers after which vectors are added, from 0; null: every layer."
    )
    effect_prompts: Integer = Field(
        6,
        ge=1,
        description="Label-shuffled prompts per set and stage for the effect maps (>= 1), of the "
        "vectors.effect_prompts there are. Cost: two to three forward passes each.",
    )
    random_sets: Integer = Field(
        100, ge=1, description="Random head sets beside the selected one (>= 1). Paper: 100."
    )
    paraphrases: dict[Name, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Other wordings of a set's instruction, set -> list, for held-out sets and `sets`; "
        "built-in tasks have their own, other sets without any are left out. Cost: each a zero-shot and a "
        "few-shot evaluation of `examples`, before training and after the last stage.",
    )
    within_stage: WithinStage = Field(
        default_factory=WithinStage, description="Heads from step to step within a stage."
    )
    robustness: Robustness = Field(
        default_factory=Robustness, description="Vectors made from few prompts, of heads and optimised."
    )
    shift: Shift = Field(
        default_factory=Shift, description="Divergence from the first model on the new task, and forgetting."
    )
