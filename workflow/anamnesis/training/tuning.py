"""The instruction-tuned start: a model that follows the instructions of some tasks, and so can lose that.

The papers start from a chat model. A small base model cannot follow an instruction without examples. One
epoch of plain training on the tasks' training examples, all tasks mixed, gives a start of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from anamnesis.core.artifacts import atomic_directory, write_sums
from anamnesis.core.errors import UserError
from anamnesis.core.trackers import Reporter
from anamnesis.data.prompts import Template, generator
from anamnesis.engine.batches import Batch, shuffled_batches
from anamnesis.engine.examples import Example, build_examples
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.records import EvaluationSet, Evaluator, validation_as_test
from anamnesis.models.adapters import add_lora, linear_layers, save_adapter
from anamnesis.models.cards import OnHub
from anamnesis.training.loop import train_stage
from anamnesis.training.objectives import Objective

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FIXED = {
    "optimizer": "adamw_torch",
    "scheduler": "constant",
    "weight_decay": 0.01,
    "warmup_ratio": 0.0,
    "gradient_accumulation": 1,
}
"""Settings of ``loop.train_stage`` that the section ``tuning`` does not have."""


@dataclass(frozen=True)
class TuningTask:
    """A task to tune on. ``frame``: its prepared examples, all splits; ``max_new_tokens``, ``metric``: how
    its answers are written and scored (``evaluation.records.EvaluationSet``).
    """

    name: str
    frame: pd.DataFrame
    max_new_tokens: int
    metric: str = "accuracy"


def tuning_examples(
    tasks: Sequence[TuningTask],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: int,
    max_input_tokens: int,
) -> dict[str, list[Example]]:
    """The first ``examples`` training examples of each task. No validation or test row is used.

    Raises UserError for a task without training examples.
    """
    examples_of = {}
    for task in tasks:
        rows = task.frame[task.frame["split"] == "train"].head(examples)
        if not len(rows):
            raise UserError(
                f"tuning.tasks (null: suite.held_out) names {task.name}, which has no training examples: "
                "name tasks that have some, give its file rows of the split train, or set tuning.enabled to "
                "false"
            )
        examples_of[task.name], _ = build_examples(rows, tokenizer, template, max_input_tokens)
    return examples_of


def tuning_batches(
    examples: Mapping[str, Sequence[Example]], epochs: int, batch_size: int, seed: int
) -> list[Batch]:
    """All tasks mixed, every example once per epoch, in an order that depends on the seed only."""
    mixed = [example for of_task in examples.values() for example in of_task]
    return shuffled_batches(mixed, epochs, batch_size, generator(seed, "tuning", "order"))


def tune(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    settings: Mapping,
    checkpoint_steps: int,
    seed: int,
    checkpoints: Path,
    reporter: Reporter | None = None,
) -> tuple[PreTrainedModel, pd.DataFrame]:
    """(the model with its trained adapter, the log of ``loop.train_stage``). ``settings``: the section
    ``tuning``.

    ``checkpoints``: a folder of this tuning alone; a later call with the same arguments goes on from there.
    """
    lora = dict(settings["lora"])
    lora["target_modules"] = lora["target_modules"] or linear_layers(find_heads(model).blocks, model)
    drawn = int(generator(seed, "tuning", "adapter").integers(2**31))
    tuned = add_lora(model, lora, drawn, "tuning.lora")
    how = {**FIXED, "learning_rate": settings["learning_rate"], "checkpoint_steps": checkpoint_steps}
    return tuned, train_stage(PrefixEngine(tuned), batches, Objective(), how, seed, checkpoints, reporter)


def zero_shot_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    tasks: Sequence[TuningTask],
    how: Mapping,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Mean score of each task's validation examples, asked with the instruction and no example. Tasks without
    validation examples are left out.

    ``how``: batch_tokens, seed, max_input_tokens and scorer of an ``Evaluator``.
    """
    validated = [t for t in tasks if (t.frame["split"] == "validation").any()]
    sets = [
        EvaluationSet(t.name, "train_task", validation_as_test(t.frame), t.max_new_tokens, t.metric)
        for t in validated
    ]
    evaluator = Evaluator(
        PrefixEngine(model), tokenizer, template, 1, ["instruction"], few_shot="held_out", **how
    )
    scores = evaluator.evaluate(sets, progress).groupby("set", sort=False)["score"].mean()
    return {name: float(score) for name, score in scores.items()}


def save_tuned(
    tuned: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    adapter: Path,
    snapshot: Path,
    where: OnHub | None = None,
) -> PreTrainedModel:
    """Write the ``adapter`` (plain PEFT) and the ``snapshot`` with it merged in; returns the merged model.

    ``base``, ``where``: the model that the adapter belongs to, by name and on the hub.
    """
    with atomic_directory(adapter) as folder:
        save_adapter(tuned, folder, base, [], str(adapter), where)
        write_sums(folder)
    merged = tuned.merge_and_unload().eval()
    with atomic_directory(snapshot) as folder:
        tokenizer.save_pretrained(folder)
        merged.save_pretrained(folder, safe_serialization=True)
    return merged
