"""The section ``training`` of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anamnesis.core.fields import (
    Integer,
    Name,
    Number,
    Section,
    Seed,
    Text,
)


class Lora(Section):
    """The low-rank adapter trained in each stage."""

    rank: Integer = Field(8, ge=1, description="Rank r (>= 1). Paper: 8.")
    alpha: Number = Field(
        16.0,
        gt=0,
        description="Scale; updates count alpha/r times (> 0). A method or variant with a rank of its own "
        "keeps alpha/r, unless the variant gives an alpha too. Authors' code: 16.",
    )
    dropout: Number = Field(
        0.1, ge=0, lt=1, description="Dropout before the adapter, in [0, 1). Authors' code: 0.1."
    )
    target_modules: tuple[Text, ...] = Field(
        ("q_proj", "v_proj"),
        min_length=1,
        description="Names of the linear layers that get an adapter. Paper: query and value projections.",
    )


class Training(Section):
    """Sequential fine-tuning, one adapter per stage."""

    methods: tuple[Name, ...] = Field(
        ("inclora", "inclora-ivg"),
        min_length=1,
        description="Methods to compare; a name ending in -ivg is the same method with guided training. "
        "Names of variants may be listed too.",
    )
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2),
        description="One chain of stages per seed (>= 0). Paper: 4 seeds. May be empty with statistics.pool: "
        "tables of other runs only.",
    )
    every_order: tuple[Name, ...] | None = Field(
        None,
        description="Methods that go through every order of suite.orders, the others through the first only; "
        "null: all of them.",
    )
    epochs: Integer = Field(
        1, ge=1, description="Passes over the training examples (>= 1). Paper: 10 on FUNC."
    )
    task_epochs: dict[Name, Annotated[Integer, Field(ge=1)]] = Field(
        default_factory=dict,
        description="The same of single tasks, in place of epochs: task -> passes (>= 1). Paper: 3 to 7 on "
        "TRACE.",
    )
    batch_size: Integer = Field(8, ge=1, description="Examples per forward pass (>= 1). Paper: 8.")
    gradient_accumulation: Integer = Field(
        1, ge=1, description="Forward passes per optimiser step (>= 1). Paper: 2 on each of 4 GPUs."
    )
    processes: Integer = Field(
        1,
        ge=1,
        le=64,
        description="Processes that train a stage together, each on its share of every batch and, where "
        "there are any, on a GPU of its own (1 to 64). Results depend on it as on dropout. Paper: 4.",
    )
    learning_rate: Number = Field(
        0.0008, gt=0, description="Step size (> 0). Paper: 1e-4 (TRACE, FUNC) and 1e-3 (LONG), on 7B models."
    )
    optimizer: Text = Field(
        "adamw_torch",
        description="An optimiser name of transformers, or a class such as torch.optim.SGD. Paper: Adam.",
    )
    scheduler: Text = Field(
        "constant", description="A scheduler name of transformers, or a class of torch.optim.lr_scheduler."
    )
    weight_decay: Number = Field(0.01, ge=0, description="Decoupled weight decay (>= 0). Paper: 0.01.")
    warmup_ratio: Number = Field(
        0.0, ge=0, lt=1, description="Share of the steps spent warming up, in [0, 1)."
    )
    max_input_tokens: Integer = Field(
        512,
        ge=1,
        description="Inputs that make longer prompts lose their beginning, everywhere (>= 1). Paper: 512.",
    )
    checkpoint_steps: Integer = Field(
        25, ge=1, description="A killed job loses at most so many optimiser steps (>= 1)."
    )
    lora: Lora = Field(default_factory=Lora, description="The adapter.")
