"""Which metrics a user's own task can be scored by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anamnesis.core.errors import UserError, unknown
from anamnesis.data.files import read_rows
from anamnesis.data.settings import UserTask
from anamnesis.evaluation.metrics import METRICS, WRITTEN

RANKED = "accuracy"


def allowed_metrics(with_choices: bool) -> tuple[str, ...]:
    """The metrics of a task: choices are ranked, or one of them is written; without, any text is written."""
    return (RANKED, *WRITTEN) if with_choices else tuple(METRICS)


def metric_problems(tasks: Mapping[str, UserTask]) -> Iterator[str]:
    """A message for each of ``data.tasks`` whose metric does not exist or does not fit its file."""
    for name, task in tasks.items():
        key = f"data.tasks.{name}.metric"
        if task.metric is None:
            continue
        if task.metric not in (RANKED, *METRICS):
            yield f"{key}: {unknown('metric', task.metric, (RANKED, *METRICS))}"
            continue
        # the first row decides: the job that prepares the task refuses choices in some rows only
        try:
            with_choices = bool(read_rows(task.path)[0].get("choices"))
        except UserError:  # the job that prepares the task reports it
            continue
        allowed = allowed_metrics(with_choices)
        if task.metric not in allowed:
            has = "has choices, which are ranked" if with_choices else "has no column choices to rank"
            remedy = "remove the column choices" if with_choices else "add that column"
            yield (
                f"{key} = '{task.metric}': {task.path} {has}; set it to null or one of {', '.join(allowed)}, "
                f"or {remedy}"
            )
