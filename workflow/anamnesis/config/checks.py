"""Rules that involve several keys of the configuration at once; each returns messages, none raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from anamnesis.config.analysed import analyses_problems
from anamnesis.config.guidance import OF_SEVERAL_TASKS
from anamnesis.config.models import Config, Model
from anamnesis.config.variants import Resolved, is_sum_of_adapters, known_names, resolve
from anamnesis.core.errors import UserError, show_value, unknown
from anamnesis.data.folder import find_task_files
from anamnesis.training.slices import slice_of

RESERVED_MODEL_NAMES = ("models", "tasks", "logs", "benchmarks", "figures")
"""Directories the workflow itself makes under ``results``; no model may take their names."""

RESERVED_SUITE_NAMES = ("vectors", "tuned")
"""Directories the workflow itself makes under ``results/<model>``."""

TASK_FILE_TYPES = (".parquet", ".jsonl", ".csv", ".json")


def find_problems(config: Config, known_tasks: Collection[str]) -> list[str]:
    """All contradictions between the keys of ``config``, one message each; empty when there are none.

    ``known_tasks`` are the task names that exist besides those of ``data.tasks``.
    """
    tasks = sorted({*known_tasks, *config.data.tasks})
    checks = (
        _check_names(config),
        _check_source(config),
        _check_task_files(config),
        _check_tasks(config, tasks),
        _check_orders(config),
        _check_methods(config),
        _check_processes(config),
        _check_tuning(config),
        _check_guided_heads(config),
        _check_warmup(config),
        _check_seeds(config),
        _check_epochs(config),
        _check_task_examples(config),
        _check_every_order(config),
        _check_forms(config),
        _check_duplicates(config),
        _check_shots(config),
        _check_mechanisms(config),
        analyses_problems(config),
    )
    return [message for check in checks for message in check]


def _check_names(config: Config) -> Iterator[str]:
    for key, name, reserved in (
        ("model.name", config.model.name, RESERVED_MODEL_NAMES),
        ("suite.name", config.suite.name, RESERVED_SUITE_NAMES),
    ):
        if name in reserved:
            yield f"{key} = '{name}': that directory holds other results, use no name of {_join(reserved)}"


def _check_source(config: Config) -> Iterator[str]:
    source, sha256 = config.model.source, config.model.sha256
    default = Model()
    if source != default.source and sha256 == default.sha256:
        yield (
            f"model.sha256 = '{sha256[:12]}...': this is the digest of {default.source}, "
            f"set it to that of model.source = '{source}', or to null"
        )


def _check_task_files(config: Config) -> Iterator[str]:
    try:
        find_task_files(config.data.root)
    except UserError as error:
        yield str(error)
    for name, task in config.data.tasks.items():
        if Path(task.path).suffix not in TASK_FILE_TYPES:
            yield f"data.tasks.{name}.path = {show_value(task.path)}: must end in {_join(TASK_FILE_TYPES)}"
        if task.knowledge is not None and "{input}" not in task.knowledge:
            yield (
                f"data.tasks.{name}.knowledge = {show_value(task.knowledge)}: must contain {{input}}, "
                "which stands for the input"
            )


def _listed_tasks(config: Config) -> list[tuple[str, Sequence[str]]]:
    """(key, the tasks it names) of every key that names tasks."""
    listed = [(f"suite.orders[{k}]", order) for k, order in enumerate(config.suite.orders)]
    return [
        *listed,
        ("suite.held_out", config.suite.held_out),
        ("tuning.tasks", config.tuning.tasks or ()),
        ("vectors.tasks", config.vectors.tasks or ()),
        ("interventions.sets", config.interventions.sets),
        *_flashback_tasks(config),
    ]


def _flashback_tasks(config: Config) -> Iterator[tuple[str, Sequence[str]]]:
    yield "methods.jfa.flashback_tasks", config.methods.jfa.flashback_tasks or ()
    for name, variant in config.variants.items():
        if "flashback_tasks" not in variant.settings:
            continue
        try:
            found = resolve(config, name)
        except UserError:  # said elsewhere
            continue
        yield f"variants.{name}.settings.flashback_tasks", found.settings["flashback_tasks"] or ()


def named_tasks(config: Config) -> set[str]:
    """The tasks that ``config`` names anywhere."""
    return {name for _, names in _listed_tasks(config) for name in names}


def _check_tasks(config: Config, tasks: Sequence[str]) -> Iterator[str]:
    for key, names in _listed_tasks(config):
        for name in names:
            if name not in tasks:
                yield f"{key}: {unknown('task', name, tasks)}"


def _check_orders(config: Config) -> Iterator[str]:
    first, *others = config.suite.orders
    for k, order in enumerate(others, start=1):
        if sorted(order) != sorted(first):
            yield (
                f"suite.orders[{k}] = [{_join(order)}]: must be a permutation of "
                f"suite.orders[0] = [{_join(first)}]"
            )
    for name in sorted(set(first) & set(config.suite.held_out)):
        yield f"suite.held_out: '{name}' is also a training task, remove it here or from suite.orders"


def _check_methods(config: Config) -> Iterator[str]:
    known = known_names(config)
    for name in config.variants:
        if known.count(name) > 1:
            yield f"variants.{name}: this is the name of a method; give the variant another"
    for name, variant in config.variants.items():
        for other in variant.against:
            if other not in known:
                yield f"variants.{name}.against: {unknown('method', other, known)}"
    for name in dict.fromkeys([*config.variants, *config.training.methods]):
        try:
            found = resolve(config, name)
        except UserError as error:
            yield str(error)
            continue
        yield from _check_settings(name, found, len(config.suite.orders[0]))


def _check_settings(name: str, found: Resolved, stages: int) -> Iterator[str]:
    yield from slice_of(found.base).problems(found.settings, name, stages)
    guidance = found.guidance or {"control": "none"}
    control = guidance["control"]
    if control in ("other_task", "centred") and stages == 1:
        yield (
            f"guidance.control = {control} (for {name}): the suite has one training task and this takes "
            "another; list more in suite.orders, or choose none, random_heads or random_vectors"
        )
    if control in OF_SEVERAL_TASKS and guidance["vectors_from"] == "current":
        yield (
            f"guidance.control = {control} (for {name}): other tasks' activations are those of the initial "
            "model; set guidance.vectors_from = current to initial"
        )


def _check_processes(config: Config) -> Iterator[str]:
    """What cannot be computed by several processes, or by several GPUs that hold one model."""
    gpus, known = config.model.gpus, known_names(config)
    for name in (name for name in config.training.methods if name in known):
        try:
            found = resolve(config, name)
        except UserError:  # said elsewhere
            continue
        processes = found.training["processes"]
        if processes < gpus:
            yield (
                f"training.processes = {processes} (for {name}): the model takes model.gpus = {gpus} GPUs, "
                f"one for each process; set it to {gpus} or more"
            )
        yield from slice_of(found.base).process_problems(found.settings, name, processes, gpus)


def _check_tuning(config: Config) -> Iterator[str]:
    gpus = config.model.gpus
    if config.tuning.enabled and gpus > 1:
        yield (
            f"tuning.enabled = true: a model on model.gpus = {gpus} GPUs cannot be tuned here; set it to "
            "false and name a chat model, or set model.gpus to 1"
        )


def _check_guided_heads(config: Config) -> Iterator[str]:
    selected = len(config.vectors.head_list or ()) or config.vectors.heads
    names = [name for name in config.training.methods if name in known_names(config)]
    guided = any((variant.of if (variant := config.variants.get(n)) else n).endswith("-ivg") for n in names)
    if guided and config.guidance.heads > selected:
        source = "vectors.head_list" if config.vectors.head_list else "vectors.heads"
        yield (
            f"guidance.heads = {config.guidance.heads}: only {selected} heads are selected by {source}; "
            "lower the one or raise the other"
        )


def _check_warmup(config: Config) -> Iterator[str]:
    scheduler = config.training.scheduler
    if config.training.warmup_ratio and (scheduler == "constant" or "." in scheduler):
        yield (
            f"training.warmup_ratio = {config.training.warmup_ratio:g}: training.scheduler = '{scheduler}' "
            "has no warm-up; set the ratio to 0, or a scheduler that has one, such as constant_with_warmup"
        )


def _check_forms(config: Config) -> Iterator[str]:
    if "instruction" not in config.evaluation.forms:
        yield (
            f"evaluation.forms = [{_join(config.evaluation.forms)}]: must contain instruction, the form that "
            "HP, IP, OP and forgetting are computed from"
        )


def _check_duplicates(config: Config) -> Iterator[str]:
    listed: list[tuple[str, Iterable[object]]] = [
        (f"suite.orders[{k}]", order) for k, order in enumerate(config.suite.orders)
    ]
    listed += [
        ("suite.held_out", config.suite.held_out),
        ("suite.orders", config.suite.orders),
        ("tuning.tasks", config.tuning.tasks or ()),
        ("tuning.lora.target_modules", config.tuning.lora.target_modules or ()),
        ("vectors.tasks", config.vectors.tasks or ()),
        ("vectors.head_list", config.vectors.head_list or ()),
        ("interventions.sets", config.interventions.sets),
        ("interventions.layers", config.interventions.layers or ()),
        ("training.methods", config.training.methods),
        ("training.seeds", config.training.seeds),
        ("training.every_order", config.training.every_order or ()),
        ("evaluation.forms", config.evaluation.forms),
        *_flashback_tasks(config),
        ("mechanisms.methods", config.mechanisms.methods or ()),
        ("mechanisms.seeds", config.mechanisms.seeds or ()),
        ("mechanisms.matrices", config.mechanisms.matrices),
        ("analyses.methods", config.analyses.methods or ()),
        ("analyses.seeds", config.analyses.seeds or ()),
        ("analyses.stages", config.analyses.stages or ()),
        ("analyses.sets", config.analyses.sets or ()),
        ("analyses.interventions", [*config.interventions.sets, *(config.analyses.interventions or ())]),
        ("analyses.layers", config.analyses.layers or ()),
        ("analyses.within_stage.stages", config.analyses.within_stage.stages),
        ("analyses.robustness.prompts", config.analyses.robustness.prompts),
    ]
    for key, values in listed:
        for value, count in Counter(values).items():
            if count > 1:
                yield f"{key}: {show_value(value)} is listed {count} times, list it once"


def _check_shots(config: Config) -> Iterator[str]:
    numbers = {"data.train_examples": config.data.train_examples}
    numbers |= {f"data.task_examples.{task}": n for task, n in config.data.task_examples.items()}
    for key, shots in (
        ("vectors.shots", config.vectors.shots),
        ("interventions.shots", config.interventions.shots),
        ("evaluation.shots", config.evaluation.shots),
    ):
        for place, available in numbers.items():
            if shots > available:
                yield (
                    f"{key} = {shots}: demonstrations are training examples, of which there are at most "
                    f"{place} = {available}; lower the one or raise the other"
                )


def _check_every_order(config: Config) -> Iterator[str]:
    for name in config.training.every_order or ():
        if name not in config.training.methods:
            yield f"training.every_order: {unknown('method', name, config.training.methods)}"


def _check_seeds(config: Config) -> Iterator[str]:
    if not config.training.seeds and not config.statistics.pool:
        yield (
            "training.seeds = []: nothing would be trained; list one or more integers >= 0, or give "
            "statistics.pool, the chains of other runs to make tables of"
        )


def _check_epochs(config: Config) -> Iterator[str]:
    for name in config.training.task_epochs:
        if name not in config.suite.orders[0]:
            yield f"training.task_epochs: {unknown('training task', name, config.suite.orders[0])}"


def _check_task_examples(config: Config) -> Iterator[str]:
    used = sorted(named_tasks(config))
    for name in config.data.task_examples:
        if name not in used:
            yield f"data.task_examples: {unknown('task', name, used)}"


def _check_mechanisms(config: Config) -> Iterator[str]:
    names = [name for name in config.mechanisms.methods or () if name not in config.training.methods]
    for name in names:
        yield f"mechanisms.methods: {unknown('method', name, config.training.methods)}"
    for seed in config.mechanisms.seeds or ():
        if seed not in config.training.seeds:
            yield f"mechanisms.seeds: {unknown('seed', seed, [*config.training.seeds])}"
    for name in set(config.mechanisms.methods or ()) & set(config.training.methods):
        if name in known_names(config) and not is_sum_of_adapters(resolve(config, name)):
            yield (
                f"mechanisms.methods: the weights of '{name}' are no sum of adapters (osf, or jfa with "
                "latent tasks), so they cannot be measured; leave it out"
            )


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
