"""Accuracy under other wordings of the instruction: was a task kept, or one sentence?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from anamnesis.analyses.checkpoints.measure import Plan
from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.records import EvaluationSet, Evaluator

COLUMNS = ["set", "role", "wording", "instruction", "shots", "example_id", "score"]


def wording_scores(
    engine: PrefixEngine,
    tokenizer,
    tasks: Iterable[pd.DataFrame],
    wording: Mapping[str, Any],
    plan: Plan,
    template: Template,
    shots: int,
    examples: int,
) -> pd.DataFrame:
    """Scores of the first test examples of every task, half of ``examples``, under each wording, zero-shot
    and few-shot, as the evaluation scores them.

    ``wording``: ``sets``, for each task the other fields of its ``EvaluationSet``; ``paraphrases``, set ->
    other wordings (a set without any is left out); ``scoring``, further settings of the ``Evaluator``.
    Returns :data:`COLUMNS`: ``wording`` 0 is the set's own instruction, of which ``instruction`` shows that
    of the first example; demonstrations and questions are the same for all wordings.
    """
    evaluator = Evaluator(
        engine, tokenizer, template, shots, ["instruction"], plan.batch_tokens, plan.seed,
        **wording["scoring"],
    )  # fmt: skip
    words = {name: list(others) for name, others in wording["paraphrases"].items()}
    sets = [
        EvaluationSet(frame=_beginning(task, max(1, examples // 2)), **about)
        for task, about in zip(tasks, wording["sets"], strict=True)
        if words.get(about["name"])
    ]
    asked = {s.name: [s, *(_reworded(s, text) for text in words[s.name])] for s in sets}
    table = evaluator.evaluate([s for worded in asked.values() for s in worded])  # answers in large batches
    number = table.groupby(["set", "shots", "example_id"]).cumcount()
    shown = [
        asked[name][n].frame["instruction"].iloc[0] for name, n in zip(table["set"], number, strict=True)
    ]
    return table.assign(wording=number, instruction=shown)[COLUMNS]


def _reworded(source: EvaluationSet, text: str) -> EvaluationSet:
    return replace(source, frame=source.frame.assign(instruction=text))


def _beginning(task: pd.DataFrame, examples: int) -> pd.DataFrame:
    """The training examples, which demonstrations are drawn from, and the first test examples."""
    kept = [task[task.split == "train"], task[task.split == "test"].iloc[:examples]]
    return pd.concat(kept, ignore_index=True)
