"""What is measured inside trained models, beyond their accuracy: the section ``analyses``.

"Paper" is arXiv 2406.12227.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import Integer, Name, Section, Seed, Text


class WithinStage(Section):
    """How effects and outputs of heads change from step to step of a stage, which is trained once more."""

    stages: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (1,), min_length=1, description="Stages looked into, counted from 1. Cost: training each once more."
    )
    points: Integer = Field(
        4,
        ge=0,
        description="Measurements after the one at the start of the stage, evenly spaced over its steps; 0: "
        "none at all. Cost: two to three forward passes per prompt and set each.",
    )


class Robustness(Section):
    """How much vectors of heads, and optimised ones, depend on the prompts they are made from."""

    prompts: tuple[Annotated[Integer, Field(ge=1)], ...] = Field(
        (5, 10, 20, 40),
        description="Numbers of prompts that vectors are made from (>= 1); may be empty: not done.",
    )
    draws: Integer = Field(
        3,
        ge=2,
        description="Vectors of each kind and number, from prompts of which none is in two of them (>= 2). "
        "Cost: optimising takes a training step of the batch per step.",
    )
    steps: Integer = Field(10, ge=1, description="Steps of Adam (>= 1); all else is as in vectors.optimised.")


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
