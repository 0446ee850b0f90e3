"""All jobs of an experiment with their work, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.config.analysed import has_latent_tasks
from anamnesis.config.models import Config
from anamnesis.config.variants import Resolved, chains, flashback_tasks, resolve
from anamnesis.core.errors import UserError
from anamnesis.data.chat import template_for
from anamnesis.data.places import PINS, find_task
from anamnesis.data.sources import prepare
from anamnesis.estimate import work
from anamnesis.estimate.demands import memory_mib, memory_of_processes
from anamnesis.estimate.published_sizes import published
from anamnesis.estimate.token_lengths import Lengths, by_characters, by_tokenizer, lengths_of
from anamnesis.models.shape import Shape
from anamnesis.training.tuning_settings import tuning_tasks

BYTES_PER_ANSWER = 150  # a row of evaluation.parquet, compressed
FIGURES = "figures and report"
START = ("prepare_model", "prepare_task", "tune_model")  # what everything else waits for
LORA_COPIES = 4  # float32 weights of an adapter: itself, and two moments and a copy while it is trained


@dataclass(frozen=True)
class Demand:
    """``jobs`` of one rule with equal needs; ``work``: of all of them; ``disk``: bytes they leave behind.

    ``after``: the rules it waits for. ``in_a_row``: how many of its own jobs wait for each other at most, and
    ``longest``: the most work that such a row has; None: they have none.
    """

    rule: str
    jobs: int
    work: work.Work
    memory: int = 1000
    disk: float = 0.0
    after: tuple[str, ...] = ()
    in_a_row: int = 1
    longest: work.Work | None = None


@dataclass(frozen=True)
class Plan:
    """``demands``: rules in the order of the workflow; ``assumed``: the published sets whose texts are not
    here yet, so that their lengths are those of the reference table.
    """

    demands: list[Demand]
    assumed: tuple[str, ...] = ()


def experiment_plan(config: Config, shape: Shape, tokenizer=None, on_gpu: bool = False) -> Plan:
    """``tokenizer``: of the model, None where there is none yet. ``on_gpu``: jobs have one.

    Raises UserError for an experiment without seeds.
    """
    if not config.training.seeds:
        raise UserError("training.seeds = []: only tables and figures are made, in a minute, without a model")
    ranked = list(config.vectors.tasks or config.suite.orders[0])
    vectors = list(dict.fromkeys([*suite_sets(config), *ranked, *config.interventions.sets]))
    names = list(dict.fromkeys([*vectors, *flashback_tasks(config), *tuning_tasks(config)]))
    lengths, assumed = measure_tasks(config, names, tokenizer)
    small = memory_mib(shape, config.evaluation.batch_tokens, on_gpu=on_gpu)
    trained = max(_example(lengths[task]) for order in config.suite.orders for task in order)
    tokens = config.training.batch_size * min(config.training.max_input_tokens, round(trained))
    large = max(small, memory_mib(shape, tokens, training=True, on_gpu=on_gpu))
    training = _training(config, shape, lengths, large)
    demands = [
        Demand("prepare_model", 1, work.Work(), small, shape.bytes),
        Demand("prepare_task", len(names), work.Work()),
        *_tuning(config, shape, lengths, on_gpu),
        *_vectors(config, shape, {name: lengths[name] for name in vectors}, ranked, small),
        *training,
        *_recovery(config, shape, lengths, small),
        *_evaluation(config, lengths, [demand.rule for demand in training], small),
    ]
    return Plan(demands, assumed)


def _example(task: Lengths) -> float:
    """Tokens of a prompt and its answer."""
    return task.instruction + task.question + task.answer


def suite_sets(config: Config) -> list[str]:
    """What checkpoints are evaluated on: the tasks that are trained, and the held-out sets."""
    return [*config.suite.orders[0], *config.suite.held_out]


def _tuning(config: Config, shape: Shape, lengths: Mapping[str, Lengths], on_gpu: bool) -> list[Demand]:
    tasks = [lengths[name] for name in tuning_tasks(config)]
    if not tasks:
        return []
    settings = config.model_dump()
    tuned = work.tune(tasks, settings["tuning"], settings["data"]["validation_examples"])
    longest = min(config.training.max_input_tokens, round(max(map(_example, tasks))))
    tokens = config.tuning.batch_size * longest
    memory = max(
        memory_mib(shape, config.evaluation.batch_tokens, on_gpu=on_gpu),
        memory_mib(shape, tokens, training=True, on_gpu=on_gpu),
    )
    after = ("prepare_model", "prepare_task")
    return [Demand("tune_model", 1, tuned, memory, 2 * shape.bytes, after, longest=tuned)]


def measure_tasks(config: Config, names, tokenizer=None) -> tuple[dict[str, Lengths], tuple[str, ...]]:
    """The lengths of the experiment's tasks, from their first examples, and the tasks of which they are those
    of the reference table. Nothing that the table has is fetched. A chat template is left out there, and
    without a tokenizer, where lengths are guessed.
    """
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


def adapter_parameters(shape: Shape, lora: Mapping) -> int:
    """Weights of a LoRA adapter on attention projections; other targets count as square matrices."""
    inner, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    width = {"q_proj": shape.hidden + inner, "k_proj": shape.hidden + narrow, "v_proj": shape.hidden + narrow}
    each = [width.get(name, 2 * shape.hidden) for name in lora["target_modules"]]
    return shape.layers * lora["rank"] * sum(each)


def _vectors(config: Config, shape: Shape, lengths: Mapping[str, Lengths], ranked, memory: int):
    """From the activations to the interventions. ``ranked``: the tasks that heads are ranked by."""
    settings, shards = config.model_dump(mode="json"), config.sweep.shards
    means = [work.average_activations(task, settings["vectors"]) for task in lengths.values()]
    sweeps = [work.sweep_heads(lengths[name], settings["vectors"], shape) for name in ranked]
    shown = config.interventions.sets
    changes = [work.intervene(lengths[name], settings["interventions"], shape) for name in shown]
    effects = len(ranked) * config.vectors.effect_prompts * shape.layers * shape.heads * 20
    return [
        _side_by_side("average_activations", means, shape, memory, after=START),
        _side_by_side("sweep_heads", sweeps, shape, memory, shards, effects, after=("average_activations",)),
        Demand("rank_heads", 1, work.Work(), after=("sweep_heads",)),
        Demand("build_vectors", 1, work.Work(), memory, after=("rank_heads",)),
        _side_by_side("intervene", changes, shape, memory, after=("build_vectors",)),
    ]


def _side_by_side(
    rule: str,
    parts: Sequence[work.Work],
    shape: Shape,
    memory: int,
    shards: int = 1,
    disk: float = 0.0,
    after: tuple[str, ...] = (),
) -> Demand:
    """Jobs that do not wait for each other, so many for each part of the work."""
    longest = max(parts, key=lambda part: part.flops(shape), default=work.Work()).times(1 / shards)
    return Demand(rule, len(parts) * shards, _sum(parts), memory, disk, after, longest=longest)


def _training(config: Config, shape: Shape, lengths: Mapping[str, Lengths], memory: int) -> list[Demand]:
    """One line for each method. The stages of one order and seed wait for each other."""
    found = []
    for name in config.training.methods:
        method, orders = resolve(config, name), _orders(config, name)
        trained = [
            _sum(_stage(method, lengths, order[:place], task) for place, task in enumerate(order))
            for order in orders
        ]
        jobs = sum(map(len, orders)) * len(config.training.seeds)
        disk = jobs * LORA_COPIES * adapter_parameters(shape, method.training["lora"])
        needed = memory_of_processes(memory, method.training["processes"], config.model.gpus > 1)
        total = _sum(trained).times(len(config.training.seeds))
        after = (*START, *(["rank_heads"] if method.guidance else []))
        after += ("build_vectors",) if method.needs.vector else ()
        longest = max(trained, key=lambda chain: chain.flops(shape))
        steps = max(map(len, orders))
        found.append(Demand(f"train_stage {name}", jobs, total, needed, disk, after, steps, longest))
    return found


def _orders(config: Config, method: str) -> list[Sequence[str]]:
    numbers = {chain["order"] for chain in chains(config) if chain["method"] == method}
    return [config.suite.orders[number - 1] for number in sorted(numbers)]


def _evaluation(config: Config, lengths: Mapping[str, Lengths], trained: Sequence[str], memory: int):
    """Of every checkpoint, and what is made of it. ``trained``: the rules that train."""
    sets = [lengths[name] for name in suite_sets(config)]
    trained_on, evaluation = len(config.suite.orders[0]), config.model_dump(mode="json")["evaluation"]
    one = work.evaluate(sets[:trained_on], sets[trained_on:], evaluation)
    last = len(chains(config))  # checkpoints after the last stage of a chain
    between = last * (trained_on - 1)
    scored = sets if evaluation["held_out_stages"] == "all" else sets[:trained_on]
    less = work.evaluate(scored[:trained_on], scored[trained_on:], evaluation)
    checkpoints = ("evaluate_base", "evaluate_stage")
    figures = 3 + bool(config.interventions.sets) + bool(_recovered(config))
    return [
        Demand("evaluate_base", 1, one, memory, _disk(sets), START, longest=one),
        Demand(
            "evaluate_stage",
            last + between,
            one.times(last) + less.times(between),
            memory,
            last * _disk(sets) + between * _disk(scored),
            tuple(trained),
            longest=one,
        ),
        Demand("tabulate_results", 1, work.Work(), after=checkpoints),
        Demand(FIGURES, figures + 1, work.Work(), 1000, 4e6, ("tabulate_results", "intervene", "recover"), 2),
    ]


def _recovered(config: Config) -> list[str]:
    """The methods after which vectors are added."""
    if not set(config.interventions.sets) & set(suite_sets(config)):
        return []
    return [name for name in config.training.methods if not has_latent_tasks(config, name)]


def _recovery(config: Config, shape: Shape, lengths: Mapping[str, Lengths], memory: int) -> list[Demand]:
    """Vectors after the last stage: one job for each method and order."""
    sets = [lengths[name] for name in config.interventions.sets if name in suite_sets(config)]
    methods = _recovered(config)
    settings = config.model_dump(mode="json")["interventions"]
    one = _sum(work.recover(task, settings) for task in sets).times(len(config.training.seeds))
    after = ("intervene", *(f"train_stage {name}" for name in methods))
    jobs = sum(len(_orders(config, name)) for name in methods)
    return [_side_by_side("recover", [one] * jobs, shape, memory, after=after)]


def _disk(evaluated: Sequence[Lengths]) -> float:
    return sum(2 * (task.test + task.known) for task in evaluated) * BYTES_PER_ANSWER


def _stage(method: Resolved, lengths: Mapping[str, Lengths], before, task: str) -> work.Work:
    past = [lengths[name] for name in method.past_tasks(before, task)]
    training = method.training_on(task)
    return work.train(lengths[task], training, method.base, method.settings, method.guidance, past)


def _sum(parts) -> work.Work:
    return sum(parts, work.Work())


def as_frame(plan: Plan, shape: Shape) -> pd.DataFrame:
    """rule, jobs, tokens, flops, memory_mib, disk_bytes; after, in_a_row, longest_flops: what waits."""
    rows = [
        {
            "rule": demand.rule,
            "jobs": demand.jobs,
            "tokens": demand.work.tokens,
            "flops": demand.work.flops(shape),
            "memory_mib": demand.memory,
            "disk_bytes": demand.disk,
            "after": demand.after,
            "in_a_row": demand.in_a_row,
            "longest_flops": demand.longest.flops(shape) if demand.longest else 0.0,
        }
        for demand in plan.demands
        if demand.jobs
    ]
    return pd.DataFrame(rows)
