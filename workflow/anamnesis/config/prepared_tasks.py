"""Which tasks there are, and what jobs are told of each: a job depends on nothing else of the data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from anamnesis.config.models import Config
from anamnesis.data.catalogue import DEFAULT_ANSWER, look_up
from anamnesis.data.places import find_task

if TYPE_CHECKING:
    from anamnesis.data.catalogue.entry import DataSet


def suite_sets(config: Config) -> list[str]:
    """What checkpoints are evaluated on: the tasks that are trained, and the held-out sets."""
    return [*config.suite.orders[0], *config.suite.held_out]


def ranked_tasks(config: Config) -> list[str]:
    """The tasks that heads are ranked by."""
    return list(config.vectors.tasks or config.suite.orders[0])


def vector_tasks(config: Config) -> list[str]:
    """The tasks that have in-context prompts, mean activations and vectors."""
    return list(dict.fromkeys([*suite_sets(config), *ranked_tasks(config), *config.interventions.sets]))


class PreparedTasks:
    """The tasks of a configuration by their names; methods with ``wildcards`` are for rules."""

    def __init__(self, config: Config):
        self.config, self.data = config, config.model_dump(mode="json")["data"]
        self.published = cache(self._published)

    def files(self, task: str) -> list[str]:
        """The user's files that a task is read from; none for hub and built-in tasks."""
        return [str(file) for file in find_task(task, self.data).files]

    def inputs(self, wildcards: Any) -> dict[str, list[str]]:
        """The same as inputs of a rule, so that editing them makes the task stale."""
        files = self.files(wildcards.task)
        return {"file": files} if files else {}

    def settings(self, wildcards: Any) -> dict[str, Any]:
        """The part of the data section that one task depends on."""
        section = dict(self.data)
        own = section.pop("task_examples").get(wildcards.task)
        section["train_examples"] = own or section["train_examples"]
        section["tasks"] = {
            name: {key: value for key, value in task.items() if key not in ("max_new_tokens", "metric")}
            for name, task in section["tasks"].items()
            if name == wildcards.task
        }
        if section["tasks"] or not self.inputs(wildcards):
            section["root"] = None
        return section

    def entry(self, wildcards: Any) -> Mapping[str, Any] | None:
        """What a prepared task takes from its entry in the catalogue: editing that makes the task stale."""
        entry = self.published(wildcards.task)
        return entry.prepared_from() if entry else None

    def answer_length(self, task: str) -> int:
        """The longest generated answer of a task, in tokens."""
        own, entry = self.config.data.tasks.get(task), self.published(task)
        if own and own.max_new_tokens:
            return own.max_new_tokens
        return self.config.evaluation.max_new_tokens or (entry.max_answer if entry else DEFAULT_ANSWER)

    def published_metric(self, task: str) -> str | None:
        """The metric of a published set; None for other tasks."""
        entry = self.published(task)
        return entry.metric_of(self.config.evaluation.metrics) if entry else None

    def metric(self, task: str) -> str | None:
        """The metric that scores a task; None: accuracy or, for what is generated, exact match."""
        own = self.config.data.tasks.get(task)
        return own.metric if own else self.published_metric(task)

    def _published(self, task: str) -> DataSet | None:
        """The catalogue's entry of a task that is read from a folder or a hub; None for others."""
        return look_up(task) if find_task(task, self.data).kind in ("folder", "hub") else None
