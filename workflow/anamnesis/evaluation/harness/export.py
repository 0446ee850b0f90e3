"""Our sets as tasks of lm-evaluation-harness, so that it asks any model the same questions in the same words.

Prompts are written out, demonstrations included: the harness draws nothing, and its choice is that of our
records, item for item.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anamnesis.core.artifacts import write_parquet, write_text
from anamnesis.data.prompts import Template
from anamnesis.data.text import unmarked
from anamnesis.evaluation.items import Item, build_items

TAG = "anamnesis"
"""The name by which the harness finds all tasks written here."""
ANSWER_LINE = r"(\S[^\n]*)"
"""The first line that is not blank, as ``Answer.line``; the harness removes the blanks around it."""


def write_set(
    name: str,
    frame: pd.DataFrame,
    folder: Path,
    template: Template,
    forms: Sequence[str],
    shots: Sequence[int],
    seed: int,
    max_new_tokens: int,
) -> list[str]:
    """Write the test examples of a set to ``folder``, each form and number of demonstrations as a task:
    ``<task>.yaml`` and ``<task>.parquet``, which the former names by its whole path. Returns their names.

    ``seed`` draws the demonstrations of our evaluations, ``max_new_tokens`` bounds generated answers, which
    are scored by exact match whatever the set's metric.
    """
    written = []
    for form in forms:
        for count in shots:
            if items := build_items(frame, name, form, count, template, seed):
                task = f"{name}_{form}_{count}shot"
                data = (folder / f"{task}.parquet").absolute()
                write_parquet(data, pd.DataFrame(map(_row, items)))
                how = _ranked() if items[0].choices else _generated(max_new_tokens)
                settings = {"task": task, "tag": TAG, **_common(data, items[0].before_answer), **how}
                write_text(folder / f"{task}.yaml", yaml.safe_dump(settings, sort_keys=False))
                written.append(task)
    return written


def _row(item: Item) -> dict[str, Any]:
    row = {"example_id": item.example_id, "prompt": unmarked(item.prompt), "target": item.target.strip()}
    if not item.choices:
        return row
    return row | {"choices": list(item.choices), "label": item.choices.index(row["target"])}


def _common(data: Path, before_answer: str) -> dict[str, Any]:
    return {
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "target_delimiter": before_answer,
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
    }


def _ranked() -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [_mean_of("acc"), _mean_of("acc_norm")],
    }


def _generated(max_new_tokens: int) -> dict[str, Any]:
    line = {"function": "regex", "regex_pattern": ANSWER_LINE, "fallback": ""}
    return {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "generation_kwargs": {"until": [], "max_gen_toks": max_new_tokens, "do_sample": False},
        "filter_list": [{"name": "line", "filter": [line, {"function": "take_first"}]}],
        "metric_list": [_mean_of("exact_match")],
    }


def _mean_of(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}
