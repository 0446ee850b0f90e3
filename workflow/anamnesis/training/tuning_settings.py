"""The section ``tuning`` of the configuration: the instruction-tuned start."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from anamnesis.core.fields import Flag, Integer, Name, Number, Section, Text


class TuningLora(Section):
    """The adapter of the tuning. It is merged into the model, and kept beside it as a plain PEFT adapter."""

    rank: Integer = Field(16, ge=1, description="Rank r, >= 1.")
    alpha: Number = Field(32.0, gt=0, description="Scale: an update counts alpha / r times; > 0.")
    dropout: Number = Field(0.0, ge=0, lt=1, description="Dropout before the adapter, in [0, 1).")
    target_modules: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Linear layers that get an adapter, by name; null: all linear layers of the decoder's "
        "layers.",
    )


class Tuning(Section):
    """The instruction-tuned start. The papers start from a chat model, which can lose the ability to follow
    instructions. The default model cannot follow one without examples, so it is tuned first: plainly, on
    training examples of all the tasks below mixed. The tuned model is the model before training of
    everything that follows.
    """

    enabled: Flag = Field(
        True,
        description="Whether to tune: true, or false for a chat model, which follows instructions already.",
    )
    tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks to tune on; null: suite.held_out. Never their validation or test examples.",
    )
    examples: Integer = Field(
        150,
        ge=1,
        description="At most so many training examples of each task, >= 1. Cost: time is proportional to it.",
    )
    epochs: Integer = Field(1, ge=1, description="Passes over the examples, >= 1.")
    batch_size: Integer = Field(16, ge=1, description="Examples per step, >= 1.")
    learning_rate: Number = Field(5e-4, gt=0, description="Step size of AdamW, constant, > 0.")
    lora: TuningLora = Field(default_factory=TuningLora)


def tuning_tasks(config: Any) -> list[str]:
    """The tasks that the model of a ``config.models.Config`` is tuned on; none where it is not tuned."""
    return list(config.tuning.tasks or config.suite.held_out) if config.tuning.enabled else []
