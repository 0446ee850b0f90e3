"""Rules that involve several sections of the configuration; each returns messages, none raises.

Those of one section are its ``contradictions`` (``anamnesis.core.fields``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from anamnesis.config.analysed import analyses_problems
from anamnesis.config.models import Config
from anamnesis.config.variants import Resolved, is_sum_of_adapters, known_names, resolve
from anamnesis.core.errors import UserError, unknown
from anamnesis.core.fields import repetitions
from anamnesis.data.places import find_task_files
from anamnesis.training.guidance_settings import OF_SEVERAL_TASKS
from anamnesis.training.slices import slice_of


def find_problems(config: Config, known_tasks: Collection[str]) -> list[str]:
    """All contradictions between the sections of ``config``, one message each; empty when there are none.

    ``known_tasks`` are the task names that exist besides those of ``data.tasks``.
    """
    checks = (
        _check_folder(config),
        _check_metrics(config),
        _check_names(config, sorted({*known_tasks, *config.data.tasks})),
        _check_methods(config),
        _check_processes(config),
        _check_tuning(config),
        _check_guided_heads(config),
        _check_seeds(config),
        _check_shots(config),
        _check_mechanisms(config),
        analyses_problems(config),
    )
    return [message for check in checks for message in check]


def named_tasks(config: Config) -> set[str]:
    """The tasks that ``config`` names anywhere."""
    return {name for _, names in _listed_tasks(config) for name in names}


def _listed_tasks(config: Config) -> list[tuple[str, Sequence[str]]]:
    """(key, the tasks it names) of every key that names tasks."""
    listed = [(f"suite.orders[{k}]", order) for k, order in enumerate(config.suite.orders)]
    return [
        *listed,
        ("suite.held_out", config.suite.held_out),
        ("tuning.tasks", config.tuning.tasks or ()),
        ("vectors.tasks", config.vectors.tasks or ()),
        ("interventions.sets", config.interventions.sets),
        ("methods.jfa.flashback_tasks", config.methods.jfa.flashback_tasks or ()),
        *(
            (f"variants.{name}.settings.flashback_tasks", resolved.settings["flashback_tasks"] or ())
            for name, resolved in _resolved(config, config.variants)
            if "flashback_tasks" in config.variants[name].settings
        ),
    ]


def _resolved(config: Config, names: Iterable[str]) -> Iterator[tuple[str, Resolved]]:
    """The settings of those methods and variants that have any without problems."""
    for name in names:
        try:
            yield name, resolve(config, name)
        except UserError:  # _check_methods says it
            continue


def _check_folder(config: Config) -> Iterator[str]:
    try:
        find_task_files(config.data.root)
    except UserError as error:
        yield str(error)


def _check_metrics(config: Config) -> Iterator[str]:
    if any(task.metric for task in config.data.tasks.values()):
        # loads libraries that most runs do not need
        from anamnesis.evaluation.task_metrics import metric_problems

        yield from metric_problems(config.data.tasks)


def _check_names(config: Config, tasks: Sequence[str]) -> Iterator[str]:
    """Names that must be among those of another section."""
    known, variants, methods = known_names(config), config.variants, config.training.methods
    for key, kind, names, allowed in (
        *((key, "task", names, tasks) for key, names in _listed_tasks(config)),
        *((f"variants.{name}.against", "method", variants[name].against, known) for name in variants),
        ("training.task_epochs", "training task", config.training.task_epochs, config.suite.orders[0]),
        ("data.task_examples", "task", config.data.task_examples, sorted(named_tasks(config))),
        ("mechanisms.methods", "method", config.mechanisms.methods or (), methods),
        ("mechanisms.seeds", "seed", config.mechanisms.seeds or (), config.training.seeds),
    ):
        yield from (f"{key}: {unknown(kind, name, allowed)}" for name in names if name not in allowed)


def _check_methods(config: Config) -> Iterator[str]:
    known = known_names(config)
    for name in config.variants:
        if known.count(name) > 1:
            yield f"variants.{name}: this is the name of a method; give the variant another"
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
    gpus = config.model.gpus
    for name, found in _resolved(config, config.training.methods):
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
    guided = any(method.guidance for _, method in _resolved(config, config.training.methods))
    if guided and config.guidance.heads > selected:
        source = "vectors.head_list" if config.vectors.head_list else "vectors.heads"
        yield (
            f"guidance.heads = {config.guidance.heads}: only {selected} heads are selected by {source}; "
            "lower the one or raise the other"
        )


def _check_seeds(config: Config) -> Iterator[str]:
    if not config.training.seeds and not config.statistics.pool:
        yield (
            "training.seeds = []: nothing would be trained; list one or more integers >= 0, or give "
            "statistics.pool, the chains of other runs to make tables of"
        )


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


def _check_mechanisms(config: Config) -> Iterator[str]:
    chosen = [name for name in config.training.methods if name in (config.mechanisms.methods or ())]
    for name, method in _resolved(config, chosen):
        if not is_sum_of_adapters(method):
            yield (
                f"mechanisms.methods: the weights of '{name}' are no sum of adapters (osf, or jfa with "
                "latent tasks), so they cannot be measured; leave it out"
            )
    both = (*config.interventions.sets, *(config.analyses.interventions or ()))
    yield from repetitions("analyses.interventions", both)
