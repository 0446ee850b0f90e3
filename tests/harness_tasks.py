"""A folder of tasks of lm-evaluation-harness: one of each kind of request, and a group."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

TASKS = {
    "sums_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_choice": "options",
        "doc_to_target": "label",
        "fewshot_config": {"sampler": "first_n"},
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "sums_write": {
        "output_type": "generate_until",
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match"}],
    },
    "sums_last": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "sums_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
}


def write_tasks(folder: Path, documents: int = 6) -> Path:
    """The task files and their data in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "q": f"What is {i} plus {i}?",
            "options": [str(2 * i), str(2 * i + 1), "none"],
            "label": 0,
            "answer": str(2 * i),
            "text": f"{i} and {i} are {2 * i}. " * i,
        }
        for i in range(1, documents + 1)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        write_task(folder, name, {**task, "dataset_kwargs": {"data_files": {"test": str(data)}}})
    group = {"group": "sums", "task": ["sums_choice", "sums_write"]}
    (folder / "sums.yaml").write_text(
        yaml.safe_dump(group | {"aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}]})
    )
    return folder


def write_task(folder: Path, name: str, settings: dict) -> None:
    common = {"task": name, "dataset_path": "json", "test_split": "test", "fewshot_split": "test"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(common | settings))
