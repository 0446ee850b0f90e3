"""The section ``training`` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from anamnesis.core.errors import unknown
from anamnesis.core.fields import Integer, Name, Number, Section, Seed, Text, Together


class Lora(Section):
    """The low-rank adapter of a stage."""

    rank: Integer = Field(8, ge=1, description="Rank r, >= 1. Paper: 8.")
    alpha: Number = Field(
        16.0,
        gt=0,
        description="Scale: an update counts alpha / r times; > 0. A method or variant with a rank of its "
        "own (methods.ewc.rank) keeps alpha / r, unless the variant gives an alpha too. Authors' code: 16.",
    )
    dropout: Number = Field(
        0.1, ge=0, lt=1, description="Dropout before the adapter, in [0, 1). Authors' code: 0.1."
    )
    target_modules: tuple[Text, ...] = Field(
        ("q_proj", "v_proj"),
        min_length=1,
        description="Linear layers that get an adapter, by name. Paper: query and value projections.",
    )


class Training(Section):
    """Sequential fine-tuning: one adapter per stage, on the current task's examples only."""

    methods: tuple[Name, ...] = Field(
        ("inclora", "inclora-ivg"),
        min_length=1,
        description="What to compare: methods of docs/explanation/methods.md, such as inclora (a new adapter "
        "per task, earlier ones fixed), seqlora (one adapter through all stages) and those of the section "
        "`methods`; each also guided, with -ivg behind its name; and the names under `variants`.",
    )
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2),
        description="One chain per seed, integers >= 0. Paper: 4 seeds. Cost: time is proportional to their "
        "number. May be empty with statistics.pool: tables of other runs only (`snakemake tables`).",
    )
    every_order: tuple[Name, ...] | None = Field(
        None,
        description="Methods that go through every order of suite.orders, the others through the first "
        "only; null: all of them.",
    )
    epochs: Integer = Field(
        1,
        ge=1,
        description="Passes over the training examples, >= 1. Paper: 10 (FUNC), 1 (LONG), 3 to 7 (TRACE).",
    )
    task_epochs: dict[Name, Annotated[Integer, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Passes over the examples of single tasks, in place of epochs, for example {antonym: 3}.",
    )
    batch_size: Integer = Field(
        8, ge=1, description="Examples per forward pass, >= 1. Paper: 8. Cost: memory."
    )
    gradient_accumulation: Integer = Field(
        1, ge=1, description="Forward passes per optimiser step, >= 1. Paper: 2, on each of 4 GPUs."
    )
    processes: Together = Field(
        1,
        description="Processes that train a stage together, 1 to 64: each on its share of every batch and, "
        "where there are any, on a GPU of its own. Results depend on it as they do on the dropout drawn. "
        "Paper: 4 GPUs.",
    )
    learning_rate: Number = Field(
        0.0008,
        gt=0,
        description="Step size, > 0. Paper: 1e-4 (TRACE, FUNC), 1e-3 (LONG). A small model needs a larger "
        "one; docs/explanation/default-experiment.md says how this one was chosen.",
    )
    optimizer: Text = Field(
        "adamw_torch",
        description="An optimiser name of transformers, or a class such as torch.optim.SGD. Paper: Adam.",
    )
    scheduler: Text = Field(
        "constant",
        description="A scheduler name of transformers, or a class of torch.optim.lr_scheduler. Constant in "
        "the authors' later code.",
    )
    weight_decay: Number = Field(0.01, ge=0, description="Decoupled weight decay, >= 0. Paper: 0.01.")
    warmup_ratio: Number = Field(
        0.0, ge=0, lt=1, description="Share of the steps spent warming up, in [0, 1)."
    )
    max_input_tokens: Integer = Field(
        512,
        ge=1,
        description="Inputs that make longer prompts lose their beginning, in training, evaluation and "
        "prompts for vectors; tokens, >= 1. Paper: 512. Cost: memory and time of the longest batch.",
    )
    checkpoint_steps: Integer = Field(
        25,
        ge=1,
        description="Optimiser steps between two checkpoints of a stage, >= 1: a killed job loses at most "
        "so many. Cost: one small write each time.",
    )
    lora: Lora = Field(default_factory=Lora)

    def contradictions(self) -> Iterator[str]:
        if self.warmup_ratio and (self.scheduler == "constant" or "." in self.scheduler):
            yield (
                f"warmup_ratio = {self.warmup_ratio:g}: training.scheduler = '{self.scheduler}' has no "
                "warm-up; set the ratio to 0, or a scheduler that has one, such as constant_with_warmup"
            )
        for name in self.every_order or ():
            if name not in self.methods:
                yield f"every_order: {unknown('method', name, self.methods)}"
