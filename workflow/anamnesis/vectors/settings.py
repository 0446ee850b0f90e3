"""The sections ``vectors``, ``sweep`` and ``interventions`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anamnesis.core.fields import Flag, HeadIndex, Integer, Name, Number, Section


class Optimised(Section):
    """The optimised vector; unused with heads."""

    layer: Integer | None = Field(
        None,
        ge=0,
        description="Layer after which it is added at the last prompt token, counted from 0; null: the "
        "middle one.",
    )
    steps: Integer = Field(
        50, ge=1, description="Steps of Adam, >= 1. Cost: a training step of the batch each, for every task."
    )
    batch_size: Integer = Field(16, ge=1, description="Examples in each step, >= 1.")
    learning_rate: Number = Field(
        0.1,
        gt=0,
        description="First step size, > 0, as a share of the root mean square of a vector of the largest "
        "norm; falls linearly to 0.",
    )
    norm: Number = Field(
        1.0,
        gt=0,
        description="Largest norm, > 0, in norms of the task's vector of the heads, so that 1 compares like "
        "with like.",
    )


class Vectors(Section):
    """Mean head activations (paper eq. 1), causal effects of heads (eq. 2) and instruction vectors."""

    tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks whose effects are averaged to rank the heads; null: the training tasks, so that "
        "held-out sets have no part in choosing heads. Paper: tasks are averaged over, not said which.",
    )
    shots: Integer = Field(
        5, ge=1, description="Demonstrations per prompt, >= 1. Paper: 10. Cost: prompts grow longer with it."
    )
    activation_prompts: Integer = Field(
        40,
        ge=1,
        description="Prompts per task for the mean activation, >= 1; those the model answers correctly "
        "count. Paper: 200. Cost: about one forward pass each.",
    )
    effect_prompts: Integer = Field(
        16,
        ge=1,
        description="Prompts with shuffled labels per task for the causal effect, >= 1. Paper: number not "
        "given. Cost: two to three forward passes each; standard errors shrink with the square root.",
    )
    heads: Integer = Field(
        10, ge=1, description="Size of the head set S, the heads ranked first, >= 1. Paper: 10."
    )
    rank_by: Literal["probability", "log_probability"] = Field(
        "probability",
        description="Scale on which effects are averaged and ranked: probability (paper) or log_probability.",
    )
    target: Literal["full", "first_token"] = Field(
        "full",
        description="What is scored: full (product over the tokens of the answer; paper) or first_token.",
    )
    include_instruction: Flag = Field(
        True, description="Whether the instruction stands before the demonstrations. Paper: true."
    )
    head_list: tuple[HeadIndex, ...] | None = Field(
        None,
        min_length=1,
        description="Fixed head set [[layer, head], ...], counted from 0, in place of the ranking; null: "
        "rank the heads of this model. Paper: one list for all tasks of a model, found by ranking.",
    )
    never_answered: Literal["refuse", "average"] = Field(
        "refuse",
        description="What guided methods and fvg do about a training task that the model before training "
        "answers in none of the activation prompts, so that it has no vector: refuse (stop before they "
        "train) or average (over all prompts).",
    )
    extractor: Literal["heads", "optimised"] = Field(
        "heads",
        description="Where the vector theta of a task comes from: heads (the sum of the mean outputs of S; "
        "paper) or optimised (gradient descent on the answers to zero-shot prompts, the model fixed; as "
        "many examples as activation_prompts says, none of them for testing). theta is what interventions "
        "add and remove, and what fvg adds; guided training (-ivg) adds the mean outputs of the heads "
        "either way.",
    )
    optimised: Optimised = Field(default_factory=Optimised)


class Sweep(Section):
    """How the causal-effect sweep is divided."""

    shards: Integer = Field(
        1,
        ge=1,
        description="Jobs per task, >= 1. The numbers do not depend on it; raise it to spread the sweep "
        "over machines.",
    )


class Interventions(Section):
    """Adding and removing instruction vectors, layer by layer (paper App. E)."""

    sets: tuple[Name, ...] = Field(
        description="Tasks to do it on; may be empty. Paper: CommonsenseQA, Antonym, AG News, Last-Spanish."
    )
    layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Decoder layers, counted from 0; null: every layer. Cost: proportional to their number.",
    )
    examples: Integer = Field(
        32,
        ge=1,
        description="Test examples per set, >= 1, and as many validation examples, on which the layer is "
        "chosen. Cost: proportional to it, per layer and condition.",
    )
    shots: Integer = Field(
        5, ge=1, description="Demonstrations of the few-shot prompts from which the vector is removed, >= 1."
    )
