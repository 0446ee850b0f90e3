"""The section ``tuning`` of the configuration: the instruction-tuned start."""

from __future__ import annotations

from pydantic import Field

from anamnesis.core.fields import Flag, Integer, Name, Number, Section, Text


class TuningLora(Section):
    """The adapter of the tuning, merged into the model before anything else is done with it."""

    rank: Integer = Field(16, ge=1, description="Rank r (>= 1).")
    alpha: Number = Field(32.0, gt=0, description="Scale; updates count alpha/r times (> 0).")
    dropout: Number = Field(0.0, ge=0, lt=1, description="Dropout before the adapter, in [0, 1).")
    target_modules: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the linear layers that get an adapter; null: all linear layers of the "
        "decoder's layers, whatever they are called.",
    )


class Tuning(Section):
    """Plain multi-task tuning of the model before the experiment, so that it follows instructions."""

    enabled: Flag = Field(
        True,
        description="Whether the model is tuned before the experiment. Set it to false for a chat model, "
        "which follows instructions already.",
    )
    tasks: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Tasks whose training examples the model is tuned on; null: suite.held_out.",
    )
    examples: Integer = Field(
        150,
        ge=1,
        description="At most so many training examples of each task (>= 1), of the data.train_examples there "
        "are. Cost: time is proportional to it.",
    )
    epochs: Integer = Field(1, ge=1, description="Passes over the examples (>= 1).")
    batch_size: Integer = Field(16, ge=1, description="Examples per step (>= 1), of all tasks mixed.")
    learning_rate: Number = Field(5e-4, gt=0, description="Step size of AdamW, constant (> 0).")
    lora: TuningLora = Field(default_factory=TuningLora, description="The adapter.")


def tuning_tasks(config) -> list[str]:
    """The tasks that the model of a ``config.models.Config`` is tuned on; none where it is not tuned."""
    return list(config.tuning.tasks or config.suite.held_out) if config.tuning.enabled else []
