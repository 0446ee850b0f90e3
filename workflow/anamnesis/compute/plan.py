"""All jobs of an experiment with their work, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anamnesis.compute import work
from anamnesis.compute.demands import memory_mib, memory_of_processes
from anamnesis.compute.lengths import Lengths, by_characters, by_tokenizer, lengths_of
from anamnesis.compute.shape import Shape
from anamnesis.config.models import Config
from anamnesis.config.variants import Resolved, resolve
from anamnesis.data.chat import template_for
from anamnesis.data.places import PINS
from anamnesis.data.sources import prepare

BYTES_PER_ANSWER = 150  # a row of evaluation.parquet, compressed
LORA_COPIES = 4  # float32 weights of an adapter: itself, and two moments and a copy while it is trained


@dataclass(frozen=True)
class Demand:
    """``jobs`` of one rule with equal needs; ``work``: of all of them; ``disk``: bytes they leave behind."""

    rule: str
    jobs: int
    work: work.Work
    memory: int = 1000
    disk: float = 0.0


def experiment_plan(config: Config, shape: Shape, tokenizer=None) -> list[Demand]:
    """Rules in the order of the workflow. ``tokenizer``: of the model, None where there is none yet."""
    orders = config.suite.orders
    names = [*orders[0], *config.suite.held_out]
    ranked = list(config.vectors.tasks or names)
    vectors = list(dict.fromkeys([*names, *ranked, *config.interventions.sets]))
    lengths = measure_tasks(config, vectors, tokenizer)
    settings = config.model_dump(mode="json")
    small, large = (memory_mib(shape, config.evaluation.batch_tokens, training) for training in (False, True))
    sets = [lengths[name] for name in names]
    checkpoint = work.evaluate(sets, settings["evaluation"])
    answers = sum(2 * (s.test + s.known) for s in sets) * BYTES_PER_ANSWER
    chains = len(orders) * len(config.training.methods) * len(config.training.seeds)
    figures = 3 + bool(config.interventions.sets)
    return [
        Demand("prepare_model", 1, work.Work(), small, shape.bytes),
        Demand("prepare_task", len(vectors), work.Work()),
        Demand(
            "average_activations",
            len(vectors),
            _sum(work.average_activations(lengths[n], settings["vectors"]) for n in vectors),
            small,
        ),
        Demand(
            "sweep_heads",
            len(ranked) * config.sweep.shards,
            _sum(work.sweep_heads(lengths[n], settings["vectors"], shape) for n in ranked),
            small,
            len(ranked) * config.vectors.effect_prompts * shape.layers * shape.heads * 20,
        ),
        Demand("rank_heads", 1, work.Work()),
        Demand("build_vectors", 1, work.Work(), small),
        Demand(
            "intervene",
            len(config.interventions.sets),
            _sum(
                work.intervene(lengths[n], settings["interventions"], shape)
                for n in config.interventions.sets
            ),
            small,
        ),
        *_training(config, shape, lengths, large),
        Demand("evaluate_base", 1, checkpoint, small, answers),
        Demand(
            "evaluate_stage",
            chains * len(orders[0]),
            checkpoint.times(chains * len(orders[0])),
            small,
            answers * chains * len(orders[0]),
        ),
        Demand("tabulate_results", 1, work.Work()),
        Demand("figures and report", figures + 1, work.Work(), disk=4e6),
    ]


def measure_tasks(config: Config, names, tokenizer=None) -> dict[str, Lengths]:
    """The lengths of the experiment's tasks, from their first examples. Without a tokenizer they are guessed,
    and a chat template is left out.
    """
    settings = config.model_dump(mode="json")
    data, template = settings["data"], template_for(settings["prompts"], tokenizer)
    count = by_characters if tokenizer is None else by_tokenizer(tokenizer)
    pins = Path(config.results, PINS)
    frames = ((name, prepare(name, data, config.seed, pins).frame) for name in names)
    return {name: lengths_of(frame, template, count) for name, frame in frames}


def adapter_parameters(shape: Shape, lora: Mapping) -> int:
    """Weights of a LoRA adapter on attention projections; other targets count as square matrices."""
    inner, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    width = {"q_proj": shape.hidden + inner, "k_proj": shape.hidden + narrow, "v_proj": shape.hidden + narrow}
    each = [width.get(name, 2 * shape.hidden) for name in lora["target_modules"]]
    return shape.layers * lora["rank"] * sum(each)


def _training(config: Config, shape: Shape, lengths: Mapping[str, Lengths], memory: int) -> list[Demand]:
    """One line for each method."""
    found = []
    for name in config.training.methods:
        method, total, jobs = resolve(config, name), work.Work(), 0
        for order in config.suite.orders:
            for place, task in enumerate(order):
                total += _stage(method, lengths, order[:place], task).times(len(config.training.seeds))
                jobs += len(config.training.seeds)
        disk = jobs * LORA_COPIES * adapter_parameters(shape, method.training["lora"])
        needed = memory_of_processes(memory, method.training["processes"], config.model.gpus > 1)
        found.append(Demand(f"train_stage {name}", jobs, total, needed, disk))
    return found


def _stage(method: Resolved, lengths: Mapping[str, Lengths], before, task: str) -> work.Work:
    past = [lengths[name] for name in before] if method.needs.past else []
    training = method.training_on(task)
    return work.train(lengths[task], training, method.base, method.settings, method.guidance, past)


def _sum(parts) -> work.Work:
    return sum(parts, work.Work())


def as_frame(plan: list[Demand], shape: Shape) -> pd.DataFrame:
    """rule, jobs, tokens, flops, memory_mib, disk_bytes."""
    rows = [(d.rule, d.jobs, d.work.tokens, d.work.flops(shape), d.memory, d.disk) for d in plan if d.jobs]
    return pd.DataFrame(rows, columns=["rule", "jobs", "tokens", "flops", "memory_mib", "disk_bytes"])
