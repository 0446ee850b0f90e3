"""All jobs of an experiment with their work, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.config.analysed import has_latent_tasks
from anamnesis.config.models import Config
from anamnesis.config.tuning import tuning_tasks
from anamnesis.config.variants import Resolved, chains, flashback_tasks, resolve
from anamnesis.core.errors import UserError
from anamnesis.data.chat import template_for
from anamnesis.data.lengths import by_characters
from anamnesis.data.places import PINS, find_task
from anamnesis.data.sources import prepare
from anamnesis.estimate import work
from anamnesis.estimate.lengths import Lengths, by_tokenizer, lengths_of, published
from anamnesis.estimate.memory import memory_mib, memory_of_processes
from anamnesis.estimate.methods import train
from anamnesis.estimate.shape import Shape
from anamnesis.estimate.work import NOTHING, Work

BYTES_PER_ANSWER = 150  # a row of evaluation.parquet, compressed
BYTES_PER_EFFECT = 20  # a row of causal_effects.parquet
FIGURES = "figures and report"
START = ("prepare_model", "prepare_task", "tune_model")  # what everything else waits for
LORA_COPIES = 4  # float32 weights of an adapter: itself, and two moments and a copy while it is trained


@dataclass(frozen=True)
class Jobs:
    """``count`` jobs of one rule with equal needs; ``work``: of all of them; ``memory``: MiB of one;
    ``disk``: bytes they leave behind.

    ``after``: the rules they wait for. ``in_a_row``: how many of them wait for each other at most, and
    ``longest``: the most work that such a row has.
    """

    rule: str
    count: int = 1
    work: Work = NOTHING
    memory: int = 1000
    disk: float = 0.0
    after: tuple[str, ...] = ()
    in_a_row: int = 1
    longest: Work = NOTHING


class Experiment:
    """The jobs of ``config`` on a model, rule by rule. ``lengths``: of all its tasks."""

    def __init__(self, config: Config, shape: Shape, lengths: Mapping[str, Lengths], on_gpu: bool = False):
        self.config, self.shape, self.lengths, self.on_gpu = config, shape, lengths, on_gpu
        self.settings = config.model_dump(mode="json")
        self.memory = self._memory(0, [])
        self.intervened = [name for name in config.interventions.sets if name in suite_sets(config)]
        # in models whose weights do not depend on the prompt
        names = config.training.methods if self.intervened else ()
        self.recovered = [name for name in names if not has_latent_tasks(config, name)]

    def jobs(self) -> list[Jobs]:
        """In the order of the workflow."""
        trained = [self.training(name) for name in self.config.training.methods]
        found = [
            Jobs("prepare_model", memory=self.memory, disk=self.shape.bytes),
            Jobs("prepare_task", len(self.lengths)),
            *self.tuning(),
            *self.vectors(),
            *trained,
            self.recovery(),
            *self.evaluation(tuple(jobs.rule for jobs in trained)),
        ]
        return [jobs for jobs in found if jobs.count]

    def tuning(self) -> list[Jobs]:
        tasks = [self.lengths[name] for name in tuning_tasks(self.config)]
        if not tasks:
            return []
        tuned = work.tune(tasks, self.settings["tuning"], self.config.data.validation_examples)
        memory = self._memory(self.config.tuning.batch_size, tasks)
        after = ("prepare_model", "prepare_task")
        return [Jobs("tune_model", 1, tuned, memory, 2 * self.shape.bytes, after, longest=tuned)]

    def vectors(self) -> list[Jobs]:
        """From the activations to the interventions."""
        config, settings, shape, shards = self.config, self.settings, self.shape, self.config.sweep.shards
        tasks, ranked = vector_tasks(config), ranked_tasks(config)
        means = [work.average_activations(self.lengths[name], settings["vectors"]) for name in tasks]
        sweeps = [work.sweep_heads(self.lengths[name], settings["vectors"], shape) for name in ranked]
        changed = [
            work.intervene(self.lengths[name], settings["interventions"], shape)
            for name in config.interventions.sets
        ]
        effects = len(ranked) * config.vectors.effect_prompts * shape.layers * shape.heads * BYTES_PER_EFFECT
        return [
            self._side_by_side("average_activations", means, after=START),
            self._side_by_side("sweep_heads", sweeps, ("average_activations",), shards, effects),
            Jobs("rank_heads", after=("sweep_heads",)),
            Jobs("build_vectors", memory=self.memory, after=("rank_heads",)),
            self._side_by_side("intervene", changed, after=("build_vectors",)),
        ]

    def training(self, name: str) -> Jobs:
        """All stages of a method. Those of one order and seed wait for each other."""
        config, method, orders = self.config, resolve(self.config, name), self._orders(name)
        trained = [
            sum((self._stage(method, order[:place], task) for place, task in enumerate(order)), NOTHING)
            for order in orders
        ]
        seeds = len(config.training.seeds)
        count = sum(map(len, orders)) * seeds
        largest = [self.lengths[task] for order in config.suite.orders for task in order]
        one = self._memory(config.training.batch_size, largest)
        memory = memory_of_processes(one, method.training["processes"], config.model.gpus > 1)
        lora = method.training["lora"]
        adapter = lora["rank"] * sum(self.shape.linear.get(part, 0) for part in lora["target_modules"])
        after = (*START, *["rank_heads"] * bool(method.guidance), *["build_vectors"] * method.needs.vector)
        return Jobs(
            f"train_stage {name}", count, sum(trained, NOTHING).times(seeds), memory,
            count * LORA_COPIES * adapter, after, max(map(len, orders)), max(trained, key=self._flops),
        )  # fmt: skip

    def recovery(self) -> Jobs:
        """Vectors after the last stage: one job for each method and order."""
        sets = (work.recover(self.lengths[n], self.settings["interventions"]) for n in self.intervened)
        one = sum(sets, NOTHING).times(len(self.config.training.seeds))
        count = sum(len(self._orders(name)) for name in self.recovered)
        after = ("intervene", *(f"train_stage {name}" for name in self.recovered))
        return self._side_by_side("recover", [one] * count, after)

    def evaluation(self, trained: tuple[str, ...]) -> list[Jobs]:
        """Of every checkpoint, and what is made of it. ``trained``: the rules that train."""
        sets = [self.lengths[name] for name in suite_sets(self.config)]
        tasks, settings = len(self.config.suite.orders[0]), self.settings["evaluation"]
        scored = sets if settings["held_out_stages"] == "all" else sets[:tasks]
        one, less = (work.evaluate(some[:tasks], some[tasks:], settings) for some in (sets, scored))
        last = len(chains(self.config))  # checkpoints after the last stage of a chain
        between = last * (tasks - 1)
        figures = 4 + bool(self.config.interventions.sets) + bool(self.recovered)
        return [
            Jobs("evaluate_base", 1, one, self.memory, _disk(sets), START, longest=one),
            Jobs(
                "evaluate_stage", last + between, one.times(last) + less.times(between), self.memory,
                last * _disk(sets) + between * _disk(scored), trained, longest=one,
            ),
            Jobs("tabulate_results", after=("evaluate_base", "evaluate_stage")),
            Jobs(FIGURES, figures, disk=4e6, after=("tabulate_results", "intervene", "recover"), in_a_row=2),
        ]  # fmt: skip

    def _memory(self, batch_size: int, tasks: Sequence[Lengths]) -> int:
        """MiB of a job that evaluates, and trains on batches of the longest of ``tasks``."""
        small = memory_mib(self.shape, self.config.evaluation.batch_tokens, on_gpu=self.on_gpu)
        if not tasks:
            return small
        longest = min(self.config.training.max_input_tokens, round(max(task.example for task in tasks)))
        return max(small, memory_mib(self.shape, batch_size * longest, training=True, on_gpu=self.on_gpu))

    def _orders(self, method: str) -> list[Sequence[str]]:
        numbers = {chain["order"] for chain in chains(self.config) if chain["method"] == method}
        return [self.config.suite.orders[number - 1] for number in sorted(numbers)]

    def _stage(self, method: Resolved, learnt: Sequence[str], task: str) -> Work:
        training = method.training_on(task)
        past = [self.lengths[name] for name in method.past_tasks(learnt, task)]
        guided = method.guidance is not None
        stage = work.Stage(self.lengths[task], training["epochs"], training["batch_size"], past, guided)
        return train(stage, method.base, method.settings, method.guidance)

    def _side_by_side(
        self, rule: str, parts: Sequence[Work], after: tuple[str, ...], shards: int = 1, disk: float = 0.0
    ) -> Jobs:
        """Jobs that do not wait for each other, ``shards`` for each part of the work."""
        longest = max(parts, key=self._flops, default=NOTHING).times(1 / shards)
        count = len(parts) * shards
        return Jobs(rule, count, sum(parts, NOTHING), self.memory, disk, after, longest=longest)

    def _flops(self, part: Work) -> float:
        return part.flops(self.shape)


def _disk(evaluated: Sequence[Lengths]) -> float:
    return sum(2 * (task.test + task.known) for task in evaluated) * BYTES_PER_ANSWER


def suite_sets(config: Config) -> list[str]:
    """What checkpoints are evaluated on: the tasks that are trained, and the held-out sets."""
    return [*config.suite.orders[0], *config.suite.held_out]


def ranked_tasks(config: Config) -> list[str]:
    """The tasks that heads are ranked by."""
    return list(config.vectors.tasks or config.suite.orders[0])


def vector_tasks(config: Config) -> list[str]:
    return list(dict.fromkeys([*suite_sets(config), *ranked_tasks(config), *config.interventions.sets]))


def measure_tasks(config: Config, tokenizer=None) -> tuple[dict[str, Lengths], tuple[str, ...]]:
    """The lengths of the experiment's tasks, from their first examples, and the tasks of which they are those
    of the table of published sets. Nothing that the table has is fetched. A chat template is left out there,
    and without a tokenizer, where lengths are guessed.
    """
    names = dict.fromkeys([*vector_tasks(config), *flashback_tasks(config), *tuning_tasks(config)])
    settings = config.model_dump(mode="json")
    data, template = settings["data"], template_for(settings["prompts"], tokenizer)
    count = by_characters if tokenizer is None else by_tokenizer(tokenizer)
    assumed = {name: found for name in names if not is_here(name, data) and (found := published(name, data))}
    pins = Path(config.results, PINS)
    frames = ((name, prepare(name, data, config.seed, pins).frame) for name in names if name not in assumed)
    return {name: lengths_of(frame, template, count) for name, frame in frames} | assumed, tuple(assumed)


def is_here(name: str, data: Mapping) -> bool:
    """Whether the examples of a task can be read without a network."""
    try:
        return find_task(name, data).kind != "hub"
    except UserError:  # in no place yet; where it is not published either, prepare says so
        return False


def jobs_table(config: Config, shape: Shape, tokenizer=None, on_gpu: bool = False) -> pd.DataFrame:
    """A row per rule: rule, jobs, tokens, flops, memory_mib, disk_bytes; after, in_a_row, longest_flops: what
    waits. Attribute ``assumed``: the published sets whose texts are not here yet, so that their lengths are
    those of the table.

    ``tokenizer``: of the model, None where there is none yet. ``on_gpu``: jobs have one. Raises UserError for
    an experiment without seeds.
    """
    if not config.training.seeds:
        raise UserError("training.seeds = []: only tables and figures are made, in a minute, without a model")
    lengths, assumed = measure_tasks(config, tokenizer)
    rows = [
        {
            "rule": jobs.rule,
            "jobs": jobs.count,
            "tokens": jobs.work.tokens,
            "flops": jobs.work.flops(shape),
            "memory_mib": jobs.memory,
            "disk_bytes": jobs.disk,
            "after": jobs.after,
            "in_a_row": jobs.in_a_row,
            "longest_flops": jobs.longest.flops(shape),
        }
        for jobs in Experiment(config, shape, lengths, on_gpu).jobs()
    ]
    frame = pd.DataFrame(rows)
    frame.attrs["assumed"] = assumed
    return frame
