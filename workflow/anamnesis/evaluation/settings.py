"""The section ``evaluation`` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from anamnesis.core.fields import FilePath, Form, Integer, Section, Text


class Evaluation(Section):
    """Scoring of every checkpoint."""

    shots: Integer = Field(
        5,
        ge=1,
        description="Demonstrations of the few-shot (in-context) scores, >= 1. Cost: little, their keys and "
        "values are computed once.",
    )
    demonstration_draws: Integer = Field(
        1,
        ge=1,
        description="Draws of demonstrations among which a set's few-shot questions are shared out, >= 1: "
        "with 1, all of them show the same, and the score hangs on that choice. Cost: a forward pass of the "
        "demonstrations each.",
    )
    few_shot: Literal["all", "held_out"] = Field(
        "all",
        description="Sets that are also asked with demonstrations: all, or held_out, which is what IP is "
        "measured on. Cost: all asks twice as much of every training task.",
    )
    held_out_stages: Literal["all", "last"] = Field(
        "all",
        description="Stages after which held-out sets are scored (before training they always are): all, or "
        "last, which HP and IP are of. Training tasks are scored after every stage. With last, mechanisms "
        "and analyses have no accuracy of held-out sets in between. Cost: all scores the held-out sets as "
        "often as there are stages.",
    )
    forms: tuple[Form, ...] = Field(
        ("instruction", "knowledge"),
        min_length=1,
        description="Forms scored: instruction (answer in the form asked for) and knowledge (plain fact, no "
        "instruction).",
    )
    scorer: Literal["sum", "per_token", "per_character", "full_sequence"] = Field(
        "sum",
        description="What options are ranked by: the answer's log-probability (sum), per_token, "
        "per_character of the option, or full_sequence (mean over prompt and answer, OpenCompass). It "
        "is named with every number. Cost: full_sequence runs every prompt whole.",
    )
    split: Literal["test", "validation"] = Field(
        "test",
        description="Examples that checkpoints are scored on: test, or validation, to choose tasks and "
        "settings without a look at the test examples. The validation examples of a task are at most "
        "data.validation_examples.",
    )
    metrics: Literal["cleaned", "published"] = Field(
        "cleaned",
        description="Definition of a published set's metric: cleaned, or published (the benchmark's own; "
        "docs/reference/metrics.md).",
    )
    batch_tokens: Integer = Field(
        2048, ge=1, description="Tokens per forward pass, >= 1. The scores do not depend on it; memory does."
    )
    max_new_tokens: Integer | None = Field(
        8,
        ge=1,
        description="Longest generated answer in tokens, >= 1; null: that of the catalogue, 50 for other "
        "sets. Paper: 50. Cost: one step each while any answer of a batch goes on.",
    )

    harness: tuple[Text, ...] = Field(
        (),
        description="Tasks, groups or tags of lm-evaluation-harness (extra harness) that checkpoints are "
        "also scored on, such as arc_easy: held-out sets of their own, which HP and IP leave out. Naming one "
        "whose data lie on the Hugging Face hub allows fetching them. Cost: a job for each checkpoint.",
    )
    harness_folder: FilePath | None = Field(
        None,
        description="Folder with further task files (YAML) of lm-evaluation-harness, which take the place of "
        "its own of the same names; null: none. They are data: functions in them are refused.",
    )
    harness_shots: Integer | None = Field(
        None,
        ge=0,
        description="Demonstrations of those tasks, >= 0; null: as many as each task says. Tasks that say 0 "
        "themselves keep it, as on the command line of lm-evaluation-harness.",
    )
    harness_examples: Integer | None = Field(
        None, ge=1, description="First documents of each of those tasks that are asked, >= 1; null: all."
    )

    def contradictions(self) -> Iterator[str]:
        if "instruction" not in self.forms:
            yield (
                f"forms = [{', '.join(self.forms)}]: must contain instruction, the form that HP, IP, OP and "
                "forgetting are computed from"
            )
        for key in ("harness_folder", "harness_shots", "harness_examples"):
            if getattr(self, key) is not None and not self.harness:
                yield f"{key}: harness = [] names no task; name one or more, or set {key} to null"
