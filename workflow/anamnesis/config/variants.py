"""From the name of a method or variant to all settings of its stages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from anamnesis.config.describe import describe_errors
from anamnesis.config.merging import merge
from anamnesis.config.methods import METHOD_NAMES, Variant
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError, unknown
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.training.settings import Lora
from anamnesis.training.slices import BASELINE, Needs, method_names, slice_of

HOW_TO_RUN = ("methods", "seeds", "every_order", "checkpoint_steps")
"""Keys of the section training that do not change what a stage computes."""


@dataclass(frozen=True)
class Resolved:
    """Everything a stage's result depends on, as plain JSON types.

    ``base``: the method's name without -ivg; ``settings``: its own section ({} when it has none);
    ``guidance``: None unless guided.
    """

    base: str
    needs: Needs
    training: dict[str, Any]
    settings: dict[str, Any]
    guidance: dict[str, Any] | None

    def training_on(self, task: str) -> dict[str, Any]:
        """``training`` of the stage that learns a task, with that task's epochs."""
        training = dict(self.training)
        task_epochs = training.pop("task_epochs")
        return training | {"epochs": task_epochs.get(task, training["epochs"])}

    def past_tasks(self, learnt: Sequence[str], task: str) -> list[str]:
        """The tasks other than ``task`` whose examples the stage that learns it may see: those ``learnt``
        before, and ``flashback_tasks``, each once.
        """
        if not self.needs.past:
            return []
        flashbacks = self.settings.get("flashback_tasks") or ()
        return [name for name in dict.fromkeys([*learnt, *flashbacks]) if name != task]


def known_names(config: Config) -> tuple[str, ...]:
    """All names that ``training.methods`` may list."""
    return (*METHOD_NAMES, *config.variants)


def resolve(config: Config, name: str) -> Resolved:
    """The settings of a method or variant. Raises UserError for an unknown name or a wrong override."""
    variant = config.variants.get(name)
    method = variant.of if variant else name
    if method not in METHOD_NAMES:
        key = f"variants.{name}.of" if variant else "training.methods"
        raise UserError(
            f"{key}: {unknown('method', method, METHOD_NAMES if variant else known_names(config))}"
        )
    base = method.removesuffix(GUIDED_SUFFIX)
    section = getattr(config.methods, base, None)
    if variant and variant.settings and section is None:
        raise UserError(f"variants.{name}.settings: {base} has no settings of its own; leave the key out")
    training = _override(config.training, variant.training if variant else {}, f"variants.{name}.training")
    guidance = _override(config.guidance, variant.guidance if variant else {}, f"variants.{name}.guidance")
    settings = (
        {}
        if section is None
        else _override(section, variant.settings if variant else {}, f"variants.{name}.settings")
    )
    rank = settings.pop("rank", None)
    training["lora"] = _with_scale(training["lora"], config.training.lora, variant, rank)
    return Resolved(
        base,
        slice_of(base).needs,
        {key: value for key, value in training.items() if key not in HOW_TO_RUN},
        settings,
        guidance if method.endswith(GUIDED_SUFFIX) else None,
    )


def _with_scale(
    lora: Mapping[str, Any], common: Lora, variant: Variant | None, rank: int | None
) -> dict[str, Any]:
    """The adapter of a method, with the method's own ``rank`` if it has one. An alpha that is not given with
    a rank follows it, so that alpha / rank, the scale of an update, is that of ``training.lora``.
    """
    alpha, place = lora["alpha"], lora["rank"]
    if variant is None or "alpha" not in variant.training.get("lora", {}):
        alpha, place = common.alpha, common.rank
    rank = rank or lora["rank"]
    return {**lora, "rank": rank, "alpha": alpha if rank == place else alpha * rank / place}


def chains(config: Config) -> list[dict[str, Any]]:
    """Every chain of stages: ``method``, ``order`` (number, from 1) and ``seed``."""
    every = config.training.every_order
    return [
        {"method": method, "order": order, "seed": seed}
        for method in config.training.methods
        for order in range(1, len(config.suite.orders) + 1)
        if order == 1 or every is None or method in every
        for seed in config.training.seeds
    ]


def flashback_tasks(config: Config) -> list[str]:
    """The tasks whose prompts a listed method asks for as flashbacks, in addition to those learnt before."""
    named = [resolve(config, name).settings.get("flashback_tasks") or () for name in config.training.methods]
    return list(dict.fromkeys(name for names in named for name in names))


def is_sum_of_adapters(method: Resolved) -> bool:
    """Whether a model after some stages is the base model plus low-rank adapters, in any order."""
    return method.needs.tuner == "lora" and not method.settings.get("latent_tasks")


def variant_differences(config: Config) -> dict[str, dict[str, Any]]:
    """What the variants listed in ``training.methods`` have other than the methods they are variants of.

    Returns variant -> {dotted key of the configuration: the variant's value}, such as
    ``{"jfa-5": {"methods.jfa.flashbacks": 5}}``; empty for a variant that changes nothing its method uses.
    The rank of an adapter is always ``training.lora.rank``; an alpha that only follows it is left out.
    """
    differences = {}
    for name in (name for name in config.training.methods if name in config.variants):
        changed, base = _leaves(resolve(config, name)), _leaves(resolve(config, config.variants[name].of))
        different = {key: value for key, value in changed.items() if value != base.get(key)}
        if math.isclose(_scale(changed), _scale(base)):
            different.pop("training.lora.alpha", None)
        differences[name] = different
    return differences


def variant_comparisons(config: Config) -> list[dict[str, Any]]:
    """What the figure of variants compares, as plain JSON types: one row per method in each comparison.

    Rows have ``base`` (the method), ``setting`` (dotted key, or None), ``method`` (the variant or the method
    itself) and ``value``. Variants that differ from their method in one and the same number stand together,
    by value, where that makes three values or more; all others are compared by name, with neither setting nor
    value. The method itself is in each comparison, and so is the unguided method in those by name of a guided
    one, as far as ``training.methods`` lists them. A variant with nothing to be compared with is left out.
    """
    differences = variant_differences(config)
    rows = []
    for base in dict.fromkeys(config.variants[name].of for name in differences):
        family = {
            name: different for name, different in differences.items() if config.variants[name].of == base
        }
        series = _series(config, base, family)
        for key, values in series.items():
            ordered = sorted(values, key=values.__getitem__)
            rows += [{"base": base, "setting": key, "method": m, "value": values[m]} for m in ordered]
        if others := [name for name in family if not any(name in values for values in series.values())]:
            names = [*_listed(config, base, base.removesuffix(GUIDED_SUFFIX)), *others]
            if len(names) > 1:
                rows += [{"base": base, "setting": None, "method": m, "value": None} for m in names]
    return rows


def paired_comparisons(config: Config) -> list[dict[str, str]]:
    """Which methods are compared chain by chain: rows ``kind, method, against``, as far as both are listed.

    kind "method": each plain method against the baseline; "variant": each variant against the method it is
    one of, and against those that its ``against`` names. Guided methods against plain ones are in Table 1.
    """
    listed = config.training.methods
    rows = [
        {"kind": "method", "method": name, "against": BASELINE}
        for name in listed
        if name in method_names() and name != BASELINE and BASELINE in listed
    ]
    for name in (name for name in listed if name in config.variants):
        variant = config.variants[name]
        rows += [
            {"kind": "variant", "method": name, "against": other}
            for other in _listed(config, variant.of, *variant.against)
        ]
    return rows


def _series(config: Config, base: str, family: Mapping[str, Mapping]) -> dict[str, dict[str, float]]:
    """Setting -> {method: number}, for the settings of which there are three values or more."""
    defaults = _leaves(resolve(config, base))
    numbers: dict[str, dict[str, float]] = {}
    for name, different in family.items():
        for key, value in different.items():
            if len(different) == 1 and _is_number(value) and _is_number(defaults.get(key)):
                numbers.setdefault(key, dict.fromkeys(_listed(config, base), defaults[key]))[name] = value
    return {key: values for key, values in numbers.items() if len(set(values.values())) >= 3}


def _scale(leaves: Mapping[str, Any]) -> float:
    """What an update of the adapter counts: alpha / rank."""
    return leaves["training.lora.alpha"] / leaves["training.lora.rank"]


def _listed(config: Config, *names: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name in config.training.methods]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaves(resolved: Resolved) -> dict[str, Any]:
    sections = {"training": resolved.training, f"methods.{resolved.base}": resolved.settings}
    return dict(_flat({**sections, "guidance": resolved.guidance or {}}))


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _override(section, changes: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not changes:
        return section.model_dump(mode="json")
    if set(changes) & set(HOW_TO_RUN):
        raise UserError(f"{key}: {', '.join(HOW_TO_RUN)} are the same for all methods; leave them out")
    try:
        merged = type(section).model_validate(merge(section.model_dump(mode="json"), changes))
    except ValidationError as error:
        place = tuple(key.split("."))
        raise UserError("; ".join(describe_errors(error, type(section), place))) from None
    return merged.model_dump(mode="json")
