"""The sections ``data``, ``suite`` and ``prompts`` of the configuration: which examples, in what words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from anamnesis.core.errors import unknown
from anamnesis.core.fields import (
    FilePath,
    Flag,
    Integer,
    Name,
    Section,
    Sha256,
    Text,
    must,
    not_reserved,
    repetitions,
)
from anamnesis.data.catalogue import sequences
from anamnesis.data.files import FILE_TYPES, file_type
from anamnesis.data.places import DEFAULT_SOURCES

TaskFile = Annotated[
    FilePath,
    must(
        lambda path: file_type(path) in FILE_TYPES, f"must end in {', '.join(FILE_TYPES)}, or these and .gz"
    ),
]
Knowledge = Annotated[
    Text, must(lambda text: "{input}" in text, "must contain {input}, which stands for the input")
]

RESERVED = ("vectors", "tuned")
"""Directories the workflow itself makes under ``results/<model>``; no suite may take their names."""


class UserTask(Section):
    """A task of your own: one file with the columns input and target, and the instruction."""

    path: TaskFile = Field(
        description="A .parquet, .jsonl, .json, .csv or .tsv file, from the working directory; also .gz of "
        "these."
    )
    sha256: Sha256 | None = Field(
        None, description="SHA-256 of the file, checked before it is read; null: not checked."
    )
    instruction: Text = Field(description="The instruction c shown before every example.")
    knowledge: Knowledge | None = Field(
        None,
        description="Template of the knowledge prompt, with {input} where the input goes; null when the "
        "file's own knowledge columns are to be used, or the task has no knowledge form.",
    )
    max_new_tokens: Integer | None = Field(
        None, ge=1, description="Longest generated answer, in tokens (>= 1); null: evaluation.max_new_tokens."
    )
    metric: Text | None = Field(
        None,
        description="How its answers are scored: a metric of docs/reference/metrics.md that fits them; null: "
        "accuracy of the ranked choices or, without choices, exact match.",
    )


class Data(Section):
    """The examples. Numbers are upper limits per task: a smaller task is used whole."""

    sources: tuple[Literal["folder", "hub", "builtin"], ...] = Field(
        DEFAULT_SOURCES,
        min_length=1,
        description="Places where a task that is not among `tasks` is looked for, the first that has it "
        "counts: folder (root), hub (repositories of the catalogue, docs/reference/catalogue.md; the only "
        "one that needs a network) and builtin.",
    )
    root: FilePath | None = Field(
        None,
        description="Directory with <task>.parquet or <benchmark>/<task>.parquet files, which replace the "
        "built-in tasks of the same name and add new ones; null: built-in tasks only.",
    )
    train_examples: Integer = Field(
        160,
        ge=1,
        description="Training examples, >= 1; also the pool of few-shot demonstrations. Paper: 700 to 1500 "
        "(FUNC), 5000 (TRACE). Cost: training time is proportional to it.",
    )
    validation_examples: Integer = Field(
        100,
        ge=1,
        description="Validation examples, >= 1; the prompts for vectors ask about them. Paper: 200.",
    )
    test_examples: Integer = Field(
        32,
        ge=1,
        description="Test examples, >= 1. Cost: evaluation time is proportional to it, for every "
        "checkpoint; error bars shrink with its square root.",
    )
    task_examples: dict[Name, Annotated[Integer, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Training examples of single tasks, in place of train_examples, for example "
        "{antonym: 50}; each >= 1. Paper: 250 to 14,000 (LONG).",
    )
    tasks: dict[Name, UserTask] = Field(
        default_factory=dict,
        description="Your own tasks, by name. The file has the columns input and target, and choices if "
        "there are any:\n"
        "  tasks:\n"
        "    first_letter:\n"
        "      path: data/first_letter.csv       # .csv, .tsv, .jsonl, .json or .parquet\n"
        "      sha256: null                      # checked before the file is read; null: not checked\n"
        "      instruction: Write the first letter of the word.\n"
        '      knowledge: null                   # without instruction, e.g. "{input} begins with"\n'
        "      max_new_tokens: null              # null: evaluation.max_new_tokens\n"
        "      metric: null                      # docs/reference/metrics.md; null: accuracy or exact match",
    )


def _spell_out(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in sequences():
        raise unknown("sequence", value, sequences())
    return sequences()[value]


class _OrSequence:
    """Adds the names of the sequences to the JSON schema, which alone needs them before a value is read."""

    def __get_pydantic_json_schema__(self, schema, handler):
        return {"anyOf": [handler(schema), {"type": "string", "enum": list(sequences())}]}


Order = Annotated[tuple[Name, ...], Field(min_length=1), BeforeValidator(_spell_out), _OrSequence()]
"""Tasks in the order in which they are learnt, at least one."""


class Suite(Section):
    """The tasks of the experiment."""

    name: Annotated[Name, not_reserved(RESERVED)] = Field(
        description="Directory name of the suite's results."
    )
    orders: tuple[Order, ...] = Field(
        min_length=1,
        description="Orders in which the training tasks are learnt: a list of lists, each a permutation of "
        "the same tasks, or of names of published sequences, such as trace6-order1 "
        "(docs/reference/catalogue.md). Paper: 6 tasks (FUNC, TRACE) and 15 (LONG). Cost: one chain of "
        "stages per order, method and seed.",
    )
    held_out: tuple[Name, ...] = Field(
        min_length=1,
        description="Tasks that no stage trains on, on which HP (zero-shot) and IP (in-context) are "
        "measured. Paper: HellaSwag, ARC-Challenge, CommonsenseQA, MMLU social sciences.",
    )

    def contradictions(self) -> Iterator[str]:
        first, *others = self.orders
        for k, order in enumerate(self.orders):
            yield from repetitions(f"orders[{k}]", order)
        for k, order in enumerate(others, start=1):
            if sorted(order) != sorted(first):
                yield (
                    f"orders[{k}] = [{', '.join(order)}]: must be a permutation of "
                    f"suite.orders[0] = [{', '.join(first)}]"
                )
        for name in sorted(set(first) & set(self.held_out)):
            yield f"held_out: '{name}' is also a training task, remove it here or from suite.orders"


class Prompts(Section):
    """The words around an example: instruction, separator, demonstrations, question."""

    input_label: str = Field("Input:", min_length=0, description="Written before an input.")
    output_label: Text = Field("Output:", description="Written before an answer; a prompt ends with it.")
    separator: Text = Field(
        "\n\n", description="Written between the instruction, the demonstrations and the question."
    )
    chat_template: Flag = Field(
        False,
        description="Whether all of that is the user turn of a conversation, written by the chat template "
        "of the model's tokenizer: true or false. docs/explanation/models.md has the details.",
    )
