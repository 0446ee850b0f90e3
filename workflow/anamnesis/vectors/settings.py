"""The sections ``vectors``, ``sweep`` and ``interventions`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anamnesis.core.fields import Flag, HeadIndex, Integer, Name, Number, Section


class Optimised(Section):
    """Vectors found by gradient descent on the answers to zero-shot prompts, with the model fixed."""

    layer: Integer | None = Field(
        None, ge=0, description="Layer after which the vector is added; null: the middle one."
    )
    steps: Integer = Field(
        50, ge=1, description="Steps of Adam (>= 1). Cost: a training step of the batch each, per task."
    )
    batch_size: Integer = Field(16, ge=1, description="Examples in each step (>= 1).")
    learning_rate: Number = Field(
        0.1,
        gt=0,
        description="First step size, as a share of the root mean square of a vector of the largest norm "
        "(> 0); it falls linearly to 0.",
    )
    norm: Number = Field(
        1.0, gt=0, description="Largest norm, in norms of the task's vector of the heads (> 0)."
    )


class Vectors(Section):
    """Mean activations, causal effects and instruction vectors (paper eq. 1 and 2)."""

    tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks whose causal effects are averaged to rank the heads; null: the training tasks, so "
        "that held-out sets have no part in choosing heads.",
    )
    shots: Integer = Field(5, ge=1, description="Demonstrations per prompt (>= 1). Paper: N = 10.")
    activation_prompts: Integer = Field(
        40,
        ge=1,
        description="Prompts per task for the mean activation of eq. 1, of which those answered correctly "
        "count (>= 1). Paper: 200. Cost: about one forward pass each.",
    )
    effect_prompts: Integer = Field(
        16,
        ge=1,
        description="Label-shuffled prompts per task for the causal effect of eq. 2 (>= 1). "
        "Cost: two to three forward passes each.",
    )
    heads: Integer = Field(
        10, ge=1, description="Size of the head set S, the heads ranked first (>= 1). Paper: 10."
    )
    rank_by: Literal["probability", "log_probability"] = Field(
        "probability", description="Scale on which effects are averaged and ranked. Paper: probability."
    )
    target: Literal["full", "first_token"] = Field(
        "full",
        description="Score the whole answer (product over its tokens) or its first token only. Paper: whole.",
    )
    include_instruction: Flag = Field(
        True, description="Whether the instruction c stands before the demonstrations. Paper: true."
    )
    head_list: tuple[HeadIndex, ...] | None = Field(
        None,
        min_length=1,
        description="Fixed head set as [[layer, head], ...], both counted from 0, used instead of the "
        "ranking; null: rank the heads of the model at hand.",
    )
    never_answered: Literal["refuse", "average"] = Field(
        "refuse",
        description="A training task that the model before training answers in none of its activation "
        "prompts, so that it has no vector: refuse (guided methods and fvg stop before they train), or "
        "average over all prompts.",
    )
    extractor: Literal["heads", "optimised"] = Field(
        "heads",
        description="Where theta comes from: heads (the sum of the mean outputs of S; paper) or optimised. "
        "Guided training (-ivg) adds the heads' mean outputs either way.",
    )
    optimised: Optimised = Field(
        default_factory=Optimised, description="The optimised vector; unused with heads."
    )


class Sweep(Section):
    """How the causal-effect sweep is divided into jobs."""

    shards: Integer = Field(
        1,
        ge=1,
        description="Jobs per task (>= 1); results do not depend on it. Raise it to use more machines.",
    )


class Interventions(Section):
    """Adding and removing instruction vectors layer by layer (paper App. E)."""

    sets: tuple[Name, ...] = Field(
        description="Tasks on which the vector is added and removed; may be empty. "
        "Paper: CommonsenseQA, Antonym, AG News, Last-Spanish."
    )
    layers: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(
        None, min_length=1, description="Decoder layers to intervene on, counted from 0; null: every layer."
    )
    examples: Integer = Field(
        32,
        ge=1,
        description="Test examples per set (>= 1), and as many validation examples, on which the layer is "
        "chosen. Cost grows with it per layer.",
    )
    shots: Integer = Field(
        5, ge=1, description="Demonstrations of the few-shot base from which the vector is removed (>= 1)."
    )
