"""All jobs of an experiment with their work, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from anamnesis.config.analysed import has_latent_tasks
from anamnesis.config.models import Config
from anamnesis.config.prepared_tasks import ranked_tasks, suite_sets, vector_tasks
from anamnesis.config.variants import Resolved, chains, flashback_tasks, resolve
from anamnesis.core.errors import UserError
from anamnesis.data.chat import template_for
from anamnesis.data.places import PINS, find_task
from anamnesis.data.preparation import prepare
from anamnesis.estimate import work
from anamnesis.estimate.lengths import Lengths, by_characters, by_tokenizer, lengths_of, published
from anamnesis.estimate.memory import memory_mib, memory_of_processes
from anamnesis.estimate.shape import Shape
from anamnesis.estimate.work import NOTHING, Work
from anamnesis.training.slices import slice_of
from anamnesis.training.tuning_settings import tuning_tasks

BYTES_PER_ANSWER, BYTES_PER_EFFECT = 150, 20  # a row of evaluation.parquet, of causal_effects.parquet
FIGURES = "figures and report"
START = ("prepare_model", "prepare_task", "tune_model")  # what everything else waits for
LORA_COPIES = 4  # float32 weights of an adapter: itself, and two moments and a copy while it is trained
Row = dict[str, object]


class Jobs:
    """The rows of :func:`jobs_table`: the jobs of ``config`` on a model, rule by rule.

    ``lengths``: of all tasks of the experiment. ``on_gpu``: every job has a GPU.
    """

    def __init__(self, config: Config, shape: Shape, lengths: Mapping[str, Lengths], on_gpu: bool = False):
        self.config, self.shape, self.lengths, self.on_gpu = config, shape, lengths, on_gpu
        self.settings = config.model_dump(mode="json")
        self.memory = self._memory(0, ())
        # after training vectors are added on sets of the suite, where weights do not depend on the prompt
        self.added = [name for name in config.interventions.sets if name in suite_sets(config)]
        methods = config.training.methods if self.added else ()
        self.recovered = [name for name in methods if not has_latent_tasks(config, name)]

    def rows(self) -> list[Row]:
        """In the order of the workflow: a rule stands after those it waits for."""
        trained = [self.training(name) for name in self.config.training.methods]
        rows = [
            self._row("prepare_model", disk_bytes=self.shape.bytes, memory_mib=self.memory),
            self._row("prepare_task", jobs=len(self.lengths)),
            *self.tuning(),
            *self.vectors(),
            *trained,
            self.recovery(),
            *self.evaluation(tuple(row["rule"] for row in trained)),
        ]
        return [row for row in rows if row["jobs"]]

    def tuning(self) -> list[Row]:
        tasks = [self.lengths[name] for name in tuning_tasks(self.config)]
        if not tasks:
            return []
        tuned = work.tune(tasks, self.settings["tuning"], self.config.data.validation_examples)
        memory = self._memory(self.config.tuning.batch_size, tasks)
        return [
            self._row("tune_model", [tuned], START[:2], disk_bytes=2 * self.shape.bytes, memory_mib=memory)
        ]

    def vectors(self) -> list[Row]:
        """From the activations to the interventions."""
        vectors, changed, shape = self.settings["vectors"], self.settings["interventions"], self.shape
        measured, ranked, shown = (
            [self.lengths[name] for name in names]
            for names in (vector_tasks(self.config), ranked_tasks(self.config), changed["sets"])
        )
        means = [work.average_activations(task, vectors) for task in measured]
        sweeps = [work.sweep_heads(task, vectors, shape) for task in ranked]
        effects = BYTES_PER_EFFECT * len(ranked) * vectors["effect_prompts"] * shape.layers * shape.heads
        shards = self.config.sweep.shards
        return [
            self._row("average_activations", means, START),
            self._row("sweep_heads", sweeps, ("average_activations",), shards=shards, disk_bytes=effects),
            self._row("rank_heads", after=("sweep_heads",)),
            self._row("build_vectors", after=("rank_heads",), memory_mib=self.memory),
            self._row(
                "intervene", [work.intervene(task, changed, shape) for task in shown], ("build_vectors",)
            ),
        ]

    def training(self, name: str) -> Row:
        """All stages of a method. Those of one chain wait for each other."""
        config, method, orders = self.config, resolve(self.config, name), self._orders(name)
        chain_work = [
            sum((self._stage(method, order[:place], task) for place, task in enumerate(order)), NOTHING)
            for order in orders
        ]
        seeds, lora = len(config.training.seeds), method.training["lora"]
        stages = sum(map(len, orders)) * seeds
        tasks = [self.lengths[task] for order in config.suite.orders for task in order]
        one, processes = self._memory(config.training.batch_size, tasks), method.training["processes"]
        adapter = lora["rank"] * sum(self.shape.linear.get(layer, 0) for layer in lora["target_modules"])
        return self._row(
            f"train_stage {name}",
            chain_work * seeds,
            (*START, *["rank_heads"] * bool(method.guidance), *["build_vectors"] * method.needs.vector),
            jobs=stages,
            in_a_row=max(map(len, orders)),
            memory_mib=memory_of_processes(one, processes, sharded=config.model.gpus > 1),
            disk_bytes=stages * LORA_COPIES * adapter,
        )

    def recovery(self) -> Row:
        """Vectors after the last stage: one job for each chain."""
        sets = (work.recover(self.lengths[name], self.settings["interventions"]) for name in self.added)
        count = sum(len(self._orders(name)) for name in self.recovered) * len(self.config.training.seeds)
        return self._row(
            "recover",
            [sum(sets, NOTHING)] * count,
            ("intervene", *map("train_stage {}".format, self.recovered)),
        )

    def evaluation(self, trained: tuple[str, ...]) -> list[Row]:
        """Of every checkpoint, and what is made of it. ``trained``: the rules that train."""
        sets = [self.lengths[name] for name in suite_sets(self.config)]
        tasks, settings = len(self.config.suite.orders[0]), self.settings["evaluation"]
        scored = sets if settings["held_out_stages"] == "all" else sets[:tasks]
        one, less = (work.evaluate(some[:tasks], some[tasks:], settings) for some in (sets, scored))
        last = len(chains(self.config))  # checkpoints after the last stage of a chain
        between = last * (tasks - 1)
        disk = last * _disk(sets) + between * _disk(scored)
        # what its tasks cost is not known before they are loaded
        asked = bool(settings["harness"]) * (1 + last + between * (settings["held_out_stages"] == "all"))
        figures = 4 + bool(self.config.interventions.sets) + bool(self.recovered)
        waits = ("tabulate_results", "intervene", "recover")
        return [
            self._row("evaluate_base", [one], START, disk_bytes=_disk(sets)),
            self._row("evaluate_stage", [one] * last + [less] * between, trained, disk_bytes=disk),
            self._row("evaluate_harness", after=trained, jobs=asked, memory_mib=self.memory),
            self._row("tabulate_results", after=("evaluate_base", "evaluate_stage")),
            self._row(FIGURES, after=waits, jobs=figures, in_a_row=2, disk_bytes=4e6),
        ]

    def _row(self, rule: str, parts: Sequence[Work] | None = None, after=(), shards=1, **more) -> Row:
        """``parts``: work that goes on side by side, each part in ``shards`` jobs; None for one small job.
        ``more``: columns that differ from the usual.
        """
        sizes = [part.flops(self.shape) for part in parts or ()]
        row = {
            "rule": rule,
            "jobs": 1 if parts is None else len(parts) * shards,
            "tokens": sum(part.tokens for part in parts or ()),
            "flops": sum(sizes),
            "memory_mib": 1000 if parts is None else self.memory,
            "disk_bytes": 0.0,
            "after": after,
            "in_a_row": 1,
            "longest_flops": max(sizes, default=0.0) / shards,
        }
        return row | more

    def _memory(self, batch_size: int, tasks: Sequence[Lengths]) -> int:
        """MiB of a job that evaluates, and trains on batches of the longest of ``tasks``, if any."""
        small = memory_mib(self.shape, self.config.evaluation.batch_tokens, on_gpu=self.on_gpu)
        longest = min(
            self.config.training.max_input_tokens, round(max((t.example for t in tasks), default=0))
        )
        return max(small, memory_mib(self.shape, batch_size * longest, bool(tasks), self.on_gpu))

    def _orders(self, method: str) -> list[Sequence[str]]:
        numbers = {chain["order"] for chain in chains(self.config) if chain["method"] == method}
        return [self.config.suite.orders[number - 1] for number in sorted(numbers)]

    def _stage(self, method: Resolved, learnt: Sequence[str], task: str) -> Work:
        training = method.training_on(task)
        past = [self.lengths[name] for name in method.past_tasks(learnt, task)]
        guided = method.guidance is not None
        stage = work.Stage(self.lengths[task], training["epochs"], training["batch_size"], past, guided)
        return work.train(stage, method.settings, method.guidance, slice_of(method.base).extra_work)


def _disk(evaluated: Sequence[Lengths]) -> float:
    return sum(2 * (task.test + task.known) for task in evaluated) * BYTES_PER_ANSWER


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
    """A row per rule: rule, jobs, tokens, flops, memory_mib (of one job), disk_bytes; after (the rules it
    waits for), in_a_row (jobs that wait for each other, at most) and longest_flops (of such a row).

    Attribute ``assumed``: the published sets whose texts are not here yet, so that their lengths are those of
    the table. ``tokenizer``: of the model, None where there is none yet. ``on_gpu``: jobs have one. Raises
    UserError for an experiment without seeds.
    """
    if not config.training.seeds:
        raise UserError("training.seeds = []: only tables and figures are made, in a minute, without a model")
    lengths, assumed = measure_tasks(config, tokenizer)
    frame = pd.DataFrame(Jobs(config, shape, lengths, on_gpu).rows())
    frame.attrs["assumed"] = assumed
    return frame
