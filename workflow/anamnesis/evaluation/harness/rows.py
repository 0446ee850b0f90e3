"""What lm-evaluation-harness found, as rows of our tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real

from anamnesis.core.names import GENERATED
from anamnesis.evaluation.harness import HARNESS

METRIC_COLUMNS = ["task", "metric", "filter", "shots", "value", "n"]
"""``filter``: what the harness took of an answer; ``n``: documents, missing for a group of tasks."""
MEANS = ("mean", "nanmean")


def metric_rows(found: Mapping) -> list[dict]:
    """A row for every metric of the results of ``evaluate``; standard errors are left out, as intervals here
    are over chains.
    """
    rows = []
    for name, values in found["results"].items():
        for key, value in values.items():
            metric, comma, chosen = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, Real):
                n = found["n-samples"].get(name, {}).get("effective")
                cells = name, metric, chosen, found["n-shot"].get(name), float(value), n
                rows.append(dict(zip(METRIC_COLUMNS, cells, strict=True)))
    return rows


def record_rows(task, samples: Sequence[Mapping]) -> list[dict]:
    """A row for every document of a task, scored by its first metric, after its first filter, that is the
    mean of one score per document between 0 and 1 (accuracy, exact match); none where it has no such metric.
    """
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    metric = next(_accuracies(task, samples), None)
    return [_row(task, metric, sample) for sample in samples] if metric else []


def _accuracies(task, samples: Sequence[Mapping]) -> Iterator[str]:
    for name in samples[0]["metrics"] if samples else ():
        mean = getattr(task.aggregation().get(name), "__name__", "") in MEANS
        if mean and all(isinstance(s[name], Real) and 0 <= s[name] <= 1 for s in samples):
            yield name


def _row(task, metric: str, sample: Mapping) -> dict:
    first = sample["arguments"][0][0]
    row = {
        "set": task.task_name,
        "role": HARNESS,
        "form": HARNESS,
        "shots": int(task.get_config("num_fewshot") or 0),
        "example_id": f"{task.task_name}-{sample['doc_id']}",
        "prompt_sha256": hashlib.sha256(str(first).encode()).hexdigest(),
        "score": float(sample[metric]),
        "metric": metric,
        "cut": False,
        "choice_logprobs": None,
        "choice_scores": None,
    }
    kind = task.OUTPUT_TYPE
    if kind == "multiple_choice":
        return row | _ranked(task, metric, sample)
    target = sample["target"]
    target = ", ".join(map(str, target)) if isinstance(target, list | tuple) else str(target)
    answer = sample["filtered_resps"][0]
    if kind == "loglikelihood":  # whether the target is what the model would write
        answer = target if answer[1] else ""
    prediction = str(answer[0] if isinstance(answer, list | tuple) and answer else answer)
    empty = kind == "generate_until" and not prediction.strip()
    return row | {"prediction": prediction, "target": target, "scorer": GENERATED, "empty": empty}


def _ranked(task, metric: str, sample: Mapping) -> dict:
    """Prediction and target of a multiple choice, the scores those that ``acc`` ranks by."""
    options = [str(option) for option in task.doc_to_choice(sample["doc"])]
    sums = [float(value) for value, _ in sample["filtered_resps"][: len(options)]]
    lengths = {"acc_norm": map(len, options), "acc_bytes": (len(o.encode()) for o in options)}
    scores = sums
    if metric in lengths:
        scores = [value / max(1, length) for value, length in zip(sums, lengths[metric], strict=True)]
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    right = [
        options[r] if isinstance(r, int) and r < len(options) else str(r)
        for r in (right if isinstance(right, list | tuple) else [right])
    ]
    return {
        "prediction": options[scores.index(max(scores))],
        "target": ", ".join(right),
        "scorer": {"acc": "sum", "acc_norm": "per_character"}.get(metric, metric),
        "empty": False,
        "choice_logprobs": sums,
        "choice_scores": scores,
    }
