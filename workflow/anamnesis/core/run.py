"""What the rules of the workflow tell the registries of figures and analyses about an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """An experiment as its rules see it. Places are mappings with ``method, order, seed, stage``.

    ``config``, ``settings``: the checked configuration, as a model and as plain values; ``model``: its keys
    that say how weights are loaded; ``intervals``: those of the statistics. ``snapshot``: the model before
    training; ``experiment``: the folder of tables and figures; ``stage``: that of a stage, with wildcards;
    ``base``: that of stage 0. ``roles``: set -> train_task or held_out; ``ranked_tasks``: those whose causal
    effects rank the heads; ``resolved``: method -> settings in force; ``followed``: the methods, seeds,
    stages and sets that analyses look at; ``held_out``: the sets among them that are never trained on;
    ``paraphrases``: set -> other wordings. The functions are those of ``config.job_inputs``.
    """

    config: Any
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    intervals: Mapping[str, Any]
    snapshot: Path
    tasks: Path
    vectors: Path
    heads: Path
    experiment: Path
    stage: Path
    base: Path
    reference: Path
    roles: Mapping[str, str]
    ranked_tasks: Sequence[str]
    chains: Sequence[Mapping[str, Any]]
    resolved: Mapping[str, Any]
    summed: Sequence[str]
    followed: Any
    held_out: Sequence[str]
    paraphrases: Mapping[str, Sequence[str]]
    paired_methods: Sequence[str]
    comparisons: Sequence[Mapping[str, Any]]
    compared: Sequence[Mapping[str, str]]
    interventions: Sequence[Path]
    recovered: Sequence[Path]
    recovered_interventions: Sequence[Path]
    adapters_upto: Callable
    stage_inputs: Callable
    training_params: Callable
    trained_task: Callable
    answer_length: Callable
    metric: Callable

    @property
    def curves(self) -> Path:
        """The accuracy of all chains."""
        return self.experiment / "accuracy.parquet"

    @property
    def analyses(self) -> Path:
        """The folder of the tables of analyses."""
        return self.experiment / "dynamics"

    @property
    def train_tasks(self) -> list[str]:
        return [name for name, role in self.roles.items() if role == "train_task"]

    @property
    def effects(self) -> list[Path]:
        """The causal effects, prompt by prompt, of each of ``ranked_tasks``."""
        return [self.vectors / task / "causal_effects.parquet" for task in self.ranked_tasks]

    def places(self, stages: Sequence[int]) -> list[dict[str, Any]]:
        """The chains that analyses follow, each at all ``stages``."""
        chosen = self.followed
        chains = [c for c in self.chains if c["method"] in chosen.methods and c["seed"] in chosen.seeds]
        return [{**chain, "stage": stage} for chain in chains for stage in stages]

    def at(self, place: Mapping[str, Any], file: str) -> str:
        """The path of a file of a place; stage 0 is the same for all chains."""
        return str((self.stage if place["stage"] else self.base) / file).format(**place)

    def stage_adapters(self, wildcards: Any) -> list[str]:
        """The adapters that make the model after the stage of ``wildcards``."""
        return self.adapters_upto(wildcards, int(wildcards.stage))

    def task_files(self, names: Sequence[str]) -> list[Path]:
        return [self.tasks / f"{name}.parquet" for name in names]

    def prompt_files(self, names: Sequence[str]) -> list[Path]:
        return [self.vectors / name / "prompts.parquet" for name in names]
