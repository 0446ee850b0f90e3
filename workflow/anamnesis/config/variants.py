"""From the name of a method or variant to all settings of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from anamnesis.config.methods import METHOD_NAMES, METHODS, TWIN_SUFFIX, Needs
from anamnesis.config.models import Config
from anamnesis.errors import UserError, unknown

HOW_TO_RUN = ("methods", "seeds", "checkpoint_steps")
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
    base = method.removesuffix(TWIN_SUFFIX)
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
    if rank := settings.pop("rank", None):
        training["lora"]["rank"] = rank
    return Resolved(
        base,
        METHODS[base],
        {key: value for key, value in training.items() if key not in HOW_TO_RUN},
        settings,
        guidance if method.endswith(TWIN_SUFFIX) else None,
    )


def _override(section, changes: Mapping[str, Any], key: str) -> dict[str, Any]:
    from anamnesis.config.load import merge

    if set(changes) & set(HOW_TO_RUN):
        raise UserError(f"{key}: {', '.join(HOW_TO_RUN)} are the same for all methods; leave them out")
    try:
        merged = type(section).model_validate(merge(section.model_dump(mode="json"), changes))
    except ValidationError as error:
        problems = (
            f"{key}.{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}"
            for e in error.errors(include_url=False)
        )
        raise UserError("; ".join(problems)) from None
    return merged.model_dump(mode="json")
