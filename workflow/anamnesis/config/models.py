"""The configuration as one frozen pydantic model, composed of sections that stand with what they configure.

The description of a key, or the docstring of a section, is the one place of its text: ``config.yaml``, the
schema and ``docs/reference/configuration.md`` are written from it (``anamnesis.commands.write_config``).
"Paper" means arXiv 2406.12227, "authors' code" what was released with it. Rules within a section are its
``contradictions``; those between sections are in :mod:`anamnesis.config.checks`.
"""

from __future__ import annotations

from pydantic import Field

from anamnesis.analyses.mechanisms.settings import Mechanisms
from anamnesis.analyses.settings import Analyses
from anamnesis.config.methods import Methods, Variant
from anamnesis.core.fields import FilePath, Name, Section, Seed
from anamnesis.core.tracker_settings import Trackers
from anamnesis.data.settings import Data, Prompts, Suite
from anamnesis.evaluation.settings import Evaluation
from anamnesis.models.settings import Model
from anamnesis.stats.settings import Statistics
from anamnesis.training.guidance_settings import Guidance
from anamnesis.training.settings import Training
from anamnesis.training.tuning_settings import Tuning
from anamnesis.vectors.settings import Interventions, Sweep, Vectors


class Config(Section):
    """One experiment, complete."""

    results: FilePath = Field(
        "results", description="Directory of everything computed, relative to the working directory."
    )
    experiment: Name | None = Field(
        None,
        description="Name of this experiment, where several share the chains of a model and a suite: its "
        "tables, figures, analyses and report lie in experiments/<name> of the suite's folder. null: in the "
        "suite's folder itself.",
    )
    seed: Seed = Field(
        0,
        description="Seed of the built-in data and of the prompts for vectors; an integer >= 0. Training "
        "has seeds of its own, below.",
    )
    model: Model = Field(default_factory=Model)
    data: Data = Field(default_factory=Data)
    suite: Suite
    tuning: Tuning = Field(default_factory=Tuning)
    prompts: Prompts = Field(default_factory=Prompts)
    vectors: Vectors = Field(default_factory=Vectors)
    sweep: Sweep = Field(default_factory=Sweep)
    interventions: Interventions
    training: Training = Field(default_factory=Training)
    guidance: Guidance = Field(default_factory=Guidance)
    methods: Methods = Field(
        default_factory=Methods,
        description="Settings of the training methods that have any. docs/explanation/methods.md says what "
        "each method does.",
    )
    variants: dict[Name, Variant] = Field(
        default_factory=dict,
        description="Methods under other settings, by names of your own, to be listed in "
        "training.methods:\n"
        "  variants:\n"
        "    inclora-ivg-random: {of: inclora-ivg, guidance: {control: random_heads}}\n"
        "    jfa-8: {of: jfa, settings: {flashbacks: 8}}\n"
        "    ewc-48: {of: ewc, training: {lora: {rank: 48}}, against: [inclora]}\n"
        "They are compared, pair by pair of order and seed, with the method they are variants of and those "
        "under `against`.",
    )
    evaluation: Evaluation = Field(default_factory=Evaluation)
    statistics: Statistics = Field(default_factory=Statistics)
    trackers: Trackers = Field(default_factory=Trackers)
    mechanisms: Mechanisms = Field(
        default_factory=Mechanisms,
    )
    analyses: Analyses = Field(
        default_factory=Analyses,
    )
