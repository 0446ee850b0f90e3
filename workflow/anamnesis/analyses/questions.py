"""The prompts that a set is traced on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import Template
from anamnesis.engine.scoring import Question
from anamnesis.evaluation.items import Item, build_items


@dataclass(frozen=True)
class SetQuestions:
    """Questions of a set, each with its right answer as the only continuation.

    ``zero_shot``, ``few_shot``: the first test examples, as the evaluation asks them; ``demonstrations``: the
    few-shot prompts without the instruction; ``chosen_on``: the first validation examples, zero-shot, on
    which the layer is chosen.
    """

    zero_shot: Sequence[Question]
    few_shot: Sequence[Question]
    demonstrations: Sequence[Question]
    chosen_on: Sequence[Question]


def set_questions(
    tokenizer, task: pd.DataFrame, name: str, template: Template, shots: int, examples: int, seed: int
) -> SetQuestions:
    """At most ``examples`` of a task's test and of its validation examples. ``shots`` and ``seed``: of the
    evaluation, so that prompts and demonstrations are the same.
    """
    validation = task.assign(split=task.split.replace({"test": "-", "validation": "test"}))

    def asked(frame: pd.DataFrame, count: int) -> list[Question]:
        items = build_items(frame, name, "instruction", count, template, seed)[:examples]
        return _encoded(tokenizer, items)

    return SetQuestions(
        asked(task, 0),
        asked(task, shots),
        asked(task.assign(instruction=""), shots),
        asked(validation, 0),
    )


def _encoded(tokenizer, items: Sequence[Item]) -> list[Question]:
    pairs = encode_pairs(
        tokenizer, [item.prompt for item in items], [i.before_answer + i.target for i in items]
    )
    return [Question(context, [answer]) for context, answer in pairs]
