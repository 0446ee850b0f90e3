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
    """What happens inside the models from stage to stage (paper section 3.3 and App. F). Computed on request
    only, by `make analyses` or `snakemake analyses`; from then on figures and report show it.
    """

    methods: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Methods followed, of training.methods; null: all of them, but for jfa with latent "
        "tasks, whose weights differ from prompt to prompt. Cost: one job per stage and chain.",
    )
    seeds: tuple[Seed, ...] | None = Field(
        None,
        min_length=1,
        description="Seeds followed, of training.seeds; null: the first. Cost: proportional to their number.",
    )
    stages: tuple[Annotated[Integer, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="Stages looked at besides 0, counted from 1; null: every stage."
    )
    sets: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks and held-out sets of the suite on which it is measured; null: "
        "interventions.sets, as far as they are of the suite, or else the held-out sets. Cost: proportional "
        "to their number.",
    )
    interventions: tuple[Name, ...] | None = Field(
        None,
        description="Tasks and held-out sets of the suite on which vectors are added and removed layer by "
        "layer, in addition to interventions.sets; may be empty; null: held-out sets, then tasks, as far as "
        "it takes to have four in all, as in the paper. Cost: as there.",
    )
    examples: Integer = Field(
        16,
        ge=1,
        description="At most so many test examples per set, and validation examples to choose layers on, >= "
        "1. Cost: proportional to it.",
    )
    layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Decoder layers after which vectors are added, from 0; null: every layer. Cost: "
        "proportional to their number.",
    )
    effect_prompts: Integer = Field(
        6,
        ge=1,
        description="Label-shuffled prompts per set and stage for the maps of causal effects, >= 1, of the "
        "vectors.effect_prompts there are. Cost: two to three forward passes each.",
    )
    random_sets: Integer = Field(
        100,
        ge=1,
        description="Random head sets to compare the selected one with, >= 1. Paper: 100. Cost: negligible.",
    )
    paraphrases: dict[Name, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Other wordings of a set's instruction, set -> list, for the held-out sets and "
        "`sets`. Built-in tasks have their own (5 each); other sets without any are left out. Cost: each "
        "an evaluation of `examples`, before training and after the last stage.\n"
        "  paraphrases:\n"
        "    first_letter: [What does the word begin with?, Name the letter that comes first.]",
    )
    within_stage: WithinStage = Field(default_factory=WithinStage)
    robustness: Robustness = Field(default_factory=Robustness)
    shift: Shift = Field(default_factory=Shift)
