"""Reading a configuration: YAML files or a mapping in, a checked :class:`Config` or one line of errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from anamnesis.config.checks import find_problems, named_tasks
from anamnesis.config.describe import describe_errors
from anamnesis.config.merging import merge
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError, show_value, unknown
from anamnesis.core.fields import UNCHECKED
from anamnesis.core.repository import DEFAULTS, configuration_file
from anamnesis.data import places

Source = Mapping[str, Any] | str | Path
"""A configuration as a mapping (Snakemake's ``config``) or as the path of a YAML file."""


def load_config(
    source: Source | Sequence[Source],
    known_tasks: Collection[str] | None = None,
    further_tasks: Collection[str] = (),
) -> Config:
    """Read and check a configuration.

    ``source`` is a mapping, a YAML file, or several of them; later ones override earlier ones key by key, and
    lists as a whole, as Snakemake does with ``--configfile``. ``known_tasks`` are the tasks that exist apart
    from ``data.tasks``; by default those of the places in ``data.sources``, and ``further_tasks``, which no
    place has to have yet.

    Raises UserError, one line with every problem found: unknown keys with the nearest valid one, values of
    the wrong type or out of range with what is allowed, unknown names, keys that contradict each other. A
    ``data.root`` that cannot be used is reported alone, as names cannot be judged without it.
    """
    sources = [source] if isinstance(source, Mapping | str | Path) else list(source)
    merged: dict[str, Any] = {}
    for part in sources:
        merged = merge(merged, _read(part))
    config, problems = _validate(merged)
    if known_tasks is None:
        known_tasks = places.known_tasks(config.data.model_dump(), named_tasks(config)) | {*further_tasks}
    if problems := [*problems, *find_problems(config, known_tasks)]:
        raise UserError("; ".join(problems))
    return config


def load_experiment(words: Sequence[str], further_tasks: Collection[str] = ()) -> Config:
    """The default experiment with configurations on top, each a file or the name of an experiment that comes
    with the workflow: what Snakemake computes with ``--configfile``. Raises UserError, as ``load_config``.
    """
    return load_config([DEFAULTS, *map(configuration_file, words)], further_tasks=further_tasks)


def _validate(content: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """The configuration, and the contradictions within its sections. Raises UserError for wrong keys and
    values: rules between sections cannot be looked at without them.
    """
    try:
        return Config.model_validate(content), []
    except ValidationError as error:
        problems = list(describe_errors(error, Config))
    try:
        return Config.model_validate(content, context=UNCHECKED), problems
    except ValidationError:
        raise UserError("; ".join(problems)) from None


def config_section(config: Config, *names: str) -> dict[str, Any]:
    """The named parts of ``config`` as a plain dict of JSON types, for the ``params`` of a rule.

    A name is a section, a key, or a dotted path into a section; what is not named is left out, so that a job
    depends on nothing else. The nesting is kept:

    ``config_section(config, "seed", "training.lora")`` -> ``{"seed": 0, "training": {"lora": {...}}}``.

    Raises UserError for a name that does not exist.
    """
    whole = config.model_dump(mode="json")
    picked: dict[str, Any] = {}
    for name in names:
        source, target = whole, picked
        *sections, last = name.split(".")
        for part in sections:
            source = _child(source, part, name)
            target = target.setdefault(part, {})
        target[last] = _child(source, last, name)
    return picked


class _Loader(yaml.SafeLoader):
    """A key that a file gives twice is an error: YAML would take the last, and forget a whole section."""

    def construct_mapping(self, node, deep=False):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in keys.items():
            if count > 1 and name != "<<":
                problem = f"the key {show_value(name)} stands {count} times in one section, write it once"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def check_files(files: Iterable[str | Path]) -> None:
    """Raise UserError for configuration files with faults that are gone once they have been read."""
    for file in files:
        _read(file)


def _child(section: Any, key: str, path: str) -> Any:
    if not isinstance(section, dict):
        raise UserError(f"unknown configuration key '{path}': the key before '{key}' is not a section")
    if key not in section:
        raise unknown("configuration key", key, section)
    return section[key]


def _read(source: Source) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    try:
        content = yaml.load(Path(source).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(
            f"configuration file '{source}': {error.strerror}; give the path of a YAML file"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # no UTF-8, no date, a number of thousands of digits
        raise UserError(f"configuration file '{source}' is not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"configuration file '{source}' is nested too deeply: no key needs that") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"configuration file '{source}' holds {show_value(content)}: must hold 'key: value' lines"
        )
    return content
