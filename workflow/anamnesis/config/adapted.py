"""The layers that adapters go to, checked against a model that is prepared already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.artifacts import read_json
from anamnesis.models.targets import Adaptable


def check_adapters(config: Config, record: Path) -> None:
    """Raise UserError for ``target_modules`` that the model lacks. ``record``: of its preparation; nothing is
    checked where there is none yet, or one of an earlier version.
    """
    known = read_json(record).get("adaptable") if record.exists() else None
    if known:
        for key, names in _targets(config):
            Adaptable(**known).check(names, key)


def _targets(config: Config) -> Iterator[tuple[str, Sequence[str]]]:
    if config.tuning.enabled and config.tuning.lora.target_modules:
        yield "tuning.lora", config.tuning.lora.target_modules
    if config.training.methods:
        yield "training.lora", config.training.lora.target_modules
    for name in config.training.methods:
        own = resolve(config, name).training["lora"]["target_modules"]
        if tuple(own) != config.training.lora.target_modules:
            yield f"variants.{name}.training.lora", own
