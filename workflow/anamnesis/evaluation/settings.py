"""The section ``evaluation`` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anamnesis.core.fields import (
    Form,
    Integer,
    Section,
)


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
