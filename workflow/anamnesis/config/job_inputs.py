"""What an experiment consists of, for the rules: its chains, and what their jobs read and are told.

Methods with ``wildcards`` are input and params functions of rules; they also take a mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from anamnesis.config.analysed import analysed, has_latent_tasks, held_out_sets, paraphrased
from anamnesis.config.layout import Layout
from anamnesis.config.load import config_section
from anamnesis.config.models import Config
from anamnesis.config.prepared_tasks import PreparedTasks, ranked_tasks, vector_tasks
from anamnesis.config.variants import (
    chains,
    flashback_tasks,
    is_sum_of_adapters,
    paired_comparisons,
    resolve,
    variant_comparisons,
)
from anamnesis.core.artifacts import read_json
from anamnesis.core.errors import UserError
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.core.repository import REPOSITORY
from anamnesis.core.run import Run
from anamnesis.training.guidance_settings import control_tasks
from anamnesis.training.tuning_settings import tuning_tasks

HARNESS_KEYS = ("harness", "harness_folder", "harness_shots", "harness_examples")
REFERENCE = REPOSITORY / "workflow" / "reference"
"""The folder of published numbers."""


class Experiment:
    """A checked configuration as its rules see it."""

    def __init__(self, config: Config):
        # no result depends on trackers: what is told to a job must not know of them
        self.config, self.settings = config, config.model_dump(mode="json", exclude={"trackers"})
        self.places, self.tasks = Layout(config), PreparedTasks(config)
        # how and where a model is loaded
        self.placement = config_section(config, "model.dtype", "model.device", "model.gpus")["model"]
        intervals = config_section(config, "statistics.bootstrap_resamples", "statistics.confidence")
        self.intervals = intervals["statistics"]
        self.resolved = {name: resolve(config, name) for name in config.training.methods}
        self.chains, self.analysed = chains(config), analysed(config)
        self.compared = paired_comparisons(config)
        self.train_tasks = list(config.suite.orders[0])
        self.roles = dict.fromkeys(self.train_tasks, "train_task")
        self.roles |= dict.fromkeys(config.suite.held_out, "held_out")
        self.ranked_tasks, self.vector_tasks = ranked_tasks(config), vector_tasks(config)
        self.tuning_tasks = tuning_tasks(config)
        # what vectors give back is measured on sets of the suite
        self.recovered_sets = [name for name in config.interventions.sets if name in self.roles]

    # ------------------------------------------------------------ what there is to be made

    @property
    def used_tasks(self) -> set[str]:
        """All tasks that a run may read."""
        further = flashback_tasks(self.config), self.tuning_tasks, self.config.data.tasks
        return {*self.vector_tasks, *(name for names in further for name in names)}

    def methods_to_lose(self) -> list[str]:
        """The methods that the experiment's tables have from before, and will not have any more."""
        record = self.places.experiment / "table1.json"
        with suppress(UserError, KeyError, TypeError):  # none, damaged, or of an earlier version
            before = {chain["method"] for chain in read_json(record)["params"]["chains"]}
            return sorted(before - {*self.config.training.methods})
        return []

    def intervened(self) -> list[str]:
        """Sets with interventions; those that only analyses ask for join the others once they are there."""
        further = self.analysed.interventions
        there = [name for name in further if self.interventions_of([name])[0].exists()]
        return [*self.config.interventions.sets, *there]

    def interventions_of(self, tasks: Sequence[str]) -> list[Path]:
        return self.places.vector_files(tasks, "interventions.parquet")

    def vector_files(self) -> list[Path]:
        return self.places.vector_files(self.vector_tasks, "instruction_vector.safetensors")

    def chain_evaluations(self, chains: Sequence[Mapping[str, Any]]) -> list[str | Path]:
        """Evaluations of the stages 0 to T, chain after chain; stage 0 is the same for all."""
        return self._of_stages(chains, range(len(self.train_tasks) + 1), "evaluation.parquet")

    def harness_files(self, chains: Sequence[Mapping[str, Any]], name: str) -> list[str | Path]:
        """The files ``name`` of the tasks of lm-evaluation-harness at their stages, chain after chain."""
        return self._of_stages(chains, self.harness_stages, name)

    @property
    def harness_stages(self) -> list[int]:
        """The stages after which those tasks are asked: those of held-out sets."""
        last = len(self.train_tasks)
        if not self.config.evaluation.harness:
            return []
        return [*range(last + 1)] if self.config.evaluation.held_out_stages == "all" else [0, last]

    def _of_stages(self, chains: Sequence[Mapping], stages: Sequence[int], name: str) -> list[str | Path]:
        file = str(self.places.stage / name)
        return [
            file.format(**chain, stage=stage) if stage else self.places.base / name
            for chain in chains
            for stage in stages
        ]

    def recovery_files(self) -> list[str]:
        """Accuracy with vectors after the last stage, chain by chain; not of models whose weights depend on
        the prompt.
        """
        latent = {name for name in self.resolved if has_latent_tasks(self.config, name)}
        file = str(self.places.chain / "recovery.parquet")
        own = self.chains if self.recovered_sets else []
        return [file.format(**chain) for chain in own if chain["method"] not in latent]

    def record_files(self) -> list[str | Path]:
        """The provenance records that the report shows: one for each kind of work, and every stage of
        training and evaluation.
        """
        places, stages = self.places, range(1, len(self.train_tasks) + 1)
        return [
            places.prepared.with_name(f"{places.prepared.name}.json"),
            *[places.tuned / "tuning.json"] * self.config.tuning.enabled,
            places.vectors / "heads.json",
            places.base / "evaluation.json",
            *(
                str(places.stage / f"{kind}.json").format(**chain, stage=stage)
                for chain in self.chains
                for stage in stages
                for kind in ("training", "evaluation")
            ),
            places.experiment / "table1.json",
        ]

    # ------------------------------------------------------------ training

    def trained_task(self, wildcards: Any, stage: int | None = None) -> str:
        """The task learnt in a stage (1, 2, ...) of an order."""
        return self.config.suite.orders[int(wildcards.order) - 1][int(stage or wildcards.stage) - 1]

    def adapters_upto(self, wildcards: Any, last: int) -> list[str]:
        """The adapters that make the model after stage ``last`` of a chain: all so far, or the last one
        alone.
        """
        first = 1 if self.resolved[wildcards["method"]].needs.adapter == "new" else max(last, 1)
        file = str(self.places.stage / "adapter")
        return [file.format(**{**wildcards, "stage": stage}) for stage in range(first, last + 1)]

    def adapters(self, wildcards: Any) -> list[str]:
        """Those of the model after a stage."""
        return self.adapters_upto(wildcards, int(wildcards.stage))

    def last_adapters(self, wildcards: Any) -> list[str]:
        """Those of the model after the last stage."""
        return self.adapters_upto(wildcards, len(self.train_tasks))

    def stage_inputs(self, wildcards: Any) -> dict[str, Any]:
        """What a training stage needs: its task, the adapters before it, earlier tasks, heads and vectors
        where used.
        """
        task, method = self.trained_task(wildcards), self.resolved[wildcards.method]
        places, means = self.places, "mean_activations.safetensors"
        inputs: dict[str, Any] = {"task": places.tasks / f"{task}.parquet"}
        earlier = self.adapters_upto(wildcards, int(wildcards.stage) - 1)
        if earlier and method.needs.adapter != "alone":
            inputs["earlier"] = earlier
        learnt = [self.trained_task(wildcards, stage) for stage in range(1, int(wildcards.stage))]
        if past := method.past_tasks(learnt, task):
            inputs["past"] = places.task_files(past)
        if method.guidance or method.needs.vector:
            inputs["heads"] = places.heads
        if method.needs.vector:
            inputs["vector"] = places.vectors / task / "instruction_vector.safetensors"
        if method.guidance:
            inputs["mean"] = places.vectors / task / means
            if method.guidance["vectors_from"] == "current":
                inputs["prompt_table"] = places.vectors / task / "prompts.parquet"
            # in the configuration's order, whatever the chain's: their average is to be the same in all
            if others := control_tasks(method.guidance["control"], task, self.train_tasks):
                inputs["task_means"] = places.vector_files(others, means)
        return inputs

    def answered_means(self, wildcards: Any) -> list[Path]:
        """Mean activations of all tasks of a chain that needs their vectors, looked at before its first
        stage.
        """
        method = self.resolved[wildcards.method]
        if int(wildcards.stage) > 1 or not (method.guidance or method.needs.vector):
            return []
        if self.config.vectors.never_answered == "average":
            return []
        order = self.config.suite.orders[int(wildcards.order) - 1]
        return self.places.vector_files(order, "mean_activations.safetensors")

    def training_params(self) -> dict[str, Any]:
        """What a stage is trained with, besides its inputs."""
        resolved, model, tuned = self.resolved, self.config.model, self.config.tuning.enabled
        name = f"{model.name}, tuned ({self.places.snapshot})" if tuned else model.name
        return {
            "method": lambda wildcards: resolved[wildcards.method].base,
            # what of a method's needs a stage is told; its inputs tell the rest
            "needs": lambda wildcards: {
                key: getattr(resolved[wildcards.method].needs, key) for key in ("adapter", "tuner")
            },
            "stage": lambda wildcards: int(wildcards.stage),
            "seed": lambda wildcards: int(wildcards.seed),
            "model": {"name": name, "source": "" if tuned else model.source, **self.placement},
            "training": lambda wildcards: resolved[wildcards.method].training_on(
                self.trained_task(wildcards)
            ),
            "settings": lambda wildcards: resolved[wildcards.method].settings,
            "guidance": lambda wildcards: resolved[wildcards.method].guidance,
            "prompts": self.settings["prompts"],
        }

    # ------------------------------------------------------------ evaluation

    def scored(self, wildcards: Any) -> dict[str, str]:
        """The sets that a checkpoint is evaluated on, and their roles."""
        stage = int(wildcards.get("stage", 0))
        if self.config.evaluation.held_out_stages == "all" or stage in (0, len(self.train_tasks)):
            return self.roles
        return {name: role for name, role in self.roles.items() if role == "train_task"}

    def scored_files(self, wildcards: Any) -> list[Path]:
        return self.places.task_files(self.scored(wildcards))

    def evaluation_params(self) -> dict[str, Any]:
        """What a checkpoint is evaluated with, besides its inputs."""
        elsewhere = ("batch_tokens", "held_out_stages", "metrics", "max_new_tokens", *HARNESS_KEYS)
        evaluation = self.settings["evaluation"]
        return {
            "roles": self.scored,
            "model": self.placement,
            "evaluation": {key: value for key, value in evaluation.items() if key not in elsewhere},
            "answer_lengths": self._by_set(self.tasks.answer_length),
            "metrics": self._by_set(self.tasks.metric),
            "max_input_tokens": self.config.training.max_input_tokens,
            "prompts": self.settings["prompts"],
            "seed": self.config.seed,
        }

    def harness_params(self) -> dict[str, Any]:
        """What the tasks of lm-evaluation-harness are asked with."""
        return {
            "model": self.placement,
            "harness": {key: self.settings["evaluation"][key] for key in HARNESS_KEYS},
        }

    def harness_task_files(self) -> list[Path]:
        """The user's task files, and what lies beside them: editing any makes these evaluations stale."""
        folder = self.config.evaluation.harness_folder
        return sorted(file for file in Path(folder).rglob("*") if file.is_file()) if folder else []

    def _by_set(self, value: Callable[[str], Any]) -> Callable[[Any], dict[str, Any]]:
        return lambda wildcards: {name: value(name) for name in self.scored(wildcards)}

    # ------------------------------------------------------------ figures and analyses

    def run(self) -> Run:
        """What the registries of figures and analyses are told."""
        config, places, resolved = self.config, self.places, self.resolved
        return Run(
            config=config,
            settings=self.settings,
            model=self.placement,
            intervals=self.intervals,
            snapshot=places.snapshot,
            tasks=places.tasks,
            vectors=places.vectors,
            heads=places.heads,
            experiment=places.experiment,
            stage=places.stage,
            base=places.base,
            reference=REFERENCE,
            roles=self.roles,
            ranked_tasks=self.ranked_tasks,
            chains=self.chains,
            resolved=resolved,
            summed=[name for name, method in resolved.items() if is_sum_of_adapters(method)],
            followed=self.analysed,
            held_out=held_out_sets(config),
            paraphrases=paraphrased(config),
            paired_methods=[name for name in resolved if name + GUIDED_SUFFIX in resolved],
            comparisons=variant_comparisons(config),
            compared=self.compared,
            interventions=self.interventions_of(self.intervened()),
            recovered=self.recovery_files(),
            recovered_interventions=self.interventions_of(self.recovered_sets),
            adapters_upto=self.adapters_upto,
            stage_inputs=self.stage_inputs,
            training_params=self.training_params,
            trained_task=self.trained_task,
            answer_length=self.tasks.answer_length,
            metric=self.tasks.metric,
        )
