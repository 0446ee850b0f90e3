"""What was run: the settings, where the model before training comes from, and what every result cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import mean

from anamnesis.core.run_warnings import in_jobs
from anamnesis.report import sentences
from anamnesis.report.builder import Section, Table

# Parts of a record that are long and stand in the configuration or in the record itself.
_NOT_SHOWN = ("params", "inputs", "config")
_COST_COLUMNS = {"rule": "Rule", "seconds": "Seconds", "peak_memory_mib": "Peak memory (MiB)"}


def what_was_run(config: Mapping) -> Section:
    """The settings that matter most, and all of them folded."""
    facts = [
        (label, shown(value_at(config, path)))
        for label, path in _FACTS.items()
        if value_at(config, path) not in (None, {}, [])
    ]
    orders = value_at(config, "suite.orders") or []
    facts[2:2] = [
        (f"Training tasks, order {k}", " → ".join(map(str, order))) for k, order in enumerate(orders, start=1)
    ]
    everything = Table(["Key", "Value"], flatten(config), "The whole configuration", kind="text", folded=True)
    return Section("What was run", tables=[Table(["Setting", "Value"], facts, kind="text"), everything])


_FACTS = {
    "Model": "model.name",
    "Weights": "model.source",
    "Tuned before training": "tuning.enabled",
    "Held-out sets": "suite.held_out",
    "Methods": "training.methods",
    "Training seeds": "training.seeds",
    "Chains of other runs": "statistics.pool",
    "Training examples per task (at most)": "data.train_examples",
    "Training examples of single tasks (at most)": "data.task_examples",
    "Test examples per set (at most)": "data.test_examples",
    "Epochs per task": "training.epochs",
    "Epochs of single tasks": "training.task_epochs",
    "Learning rate": "training.learning_rate",
    "Batch size": "training.batch_size",
    "LoRA rank": "training.lora.rank",
    "Heads in the vector": "vectors.heads",
    "Weight of the KL term": "guidance.kl.weight",
    "KL teacher": "guidance.kl.teacher",
    "KL positions": "guidance.kl.positions",
    "Demonstrations in few-shot prompts": "evaluation.shots",
}


def value_at(config: Mapping, path: str) -> object:
    """The value at a dotted path; None where there is none."""
    value: object = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def shown(value: object) -> str:
    """A configuration value as text: lists with commas, truth values as yes and no, a dash for null."""
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) if value else "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None:
        return "–"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def flatten(mapping: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """The leaves of a nested mapping as (dotted key, text), in the mapping's order."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", shown(value)))
    return rows


def start_sentence(config: Mapping, records: Mapping[str, Mapping]) -> str:
    """What the model before training is, where it was tuned; else nothing. ``records``: those of the run, of
    which the tuning's has the number of examples and the accuracy before and after.
    """
    record = next((found for name, found in records.items() if name.endswith("tuned/tuning")), None)
    if record is None:
        return ""
    before, after = (mean(record[key].values()) for key in ("accuracy_before", "accuracy_after"))
    return (
        f"The model before training is {value_at(config, 'model.name')}, tuned on "
        f"{sum(record['examples'].values())} training examples of {', '.join(record['tasks'])}. That raised "
        f"zero-shot accuracy on their validation examples from {sentences.percent(before)} to "
        f"{sentences.percent(after)}."
    )


def provenance(records: Mapping[str, Mapping]) -> Section | None:
    """What all results have in common, and the cost of each; None without records."""
    if not records:
        return None
    flat = {name: dict(flatten(_trimmed(record))) for name, record in records.items()}
    keys = list(dict.fromkeys(key for record in flat.values() for key in record))
    common = [
        (key, next(iter(values)))
        for key in keys
        if key not in _COST_COLUMNS and len(values := {record.get(key, "") for record in flat.values()}) == 1
    ]
    costs = [[name, *(record.get(key, "–") for key in _COST_COLUMNS)] for name, record in flat.items()]
    seconds = sum(float(record.get("seconds") or 0) for record in records.values())
    return Section(
        "Provenance",
        paragraphs=[
            f"{len(flat)} results, {seconds / 60:.1f} minutes of computing in all. The full record stands "
            "beside each result, with its parameters and the digests of its inputs."
        ],
        tables=[
            Table(["Same for all results", "Value"], common, kind="text"),
            Table(["Result", *_COST_COLUMNS.values()], costs, "Every result and its cost", folded=True),
        ],
    )


def warned(found: Sequence[tuple[str, Sequence[str]]]) -> Section | None:
    """What jobs were warned about; None where nothing was. ``found``: of ``core.run_warnings``."""
    if not found:
        return None
    rows = [(text, len(jobs), in_jobs(jobs)) for text, jobs in found]
    table = Table(["Warning", "Jobs", "Log"], rows, kind="text")
    return Section(
        "Warnings",
        paragraphs=[
            "What libraries and this project warned about in the jobs behind these numbers. It may concern "
            "them. The log of a job has everything that the job was told."
        ],
        tables=[table],
    )


def _trimmed(record: Mapping) -> dict:
    return {key: value for key, value in record.items() if key not in _NOT_SHOWN}
