"""The sections ``data``, ``suite`` and ``prompts`` of the configuration: which examples, in what words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from anamnesis.core.errors import unknown
from anamnesis.core.fields import FilePath, Flag, Integer, Name, Section, Sha256, Text
from anamnesis.data.catalogue import sequences
from anamnesis.data.places import DEFAULT_SOURCES


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
    metric: Text | None = Field(
        None,
        description="How its answers are scored: a metric of docs/data.md that fits them; null: accuracy of "
        "the ranked choices or, without choices, exact match.",
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
        description="Your own tasks: name -> {path, sha256, instruction, knowledge, max_new_tokens, metric}.",
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
