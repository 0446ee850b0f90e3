"""The training methods: one folder each under ``methods``, found by folder and loaded by name.

``settings.py``  what the configuration, the rules and the figures know of a method: its ``SLICE``, no torch
``method.py``    what its stages compute: its ``METHOD``; a method without this file is plain training
``engine.py``    ``engine_of``: the engine of its trained models, where that is not a plain ``PrefixEngine``;
                 ``depends_on_prompt``: whether that is so of some adapters

Nothing else lists the methods. Results depend on ``settings.py`` through the parameters of the rules only,
and on the other two through digests of their own, so that a change of one method leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

BASELINE = "inclora"
"""The method that all others are compared with."""

METHODS_FOLDER = Path(__file__).parent / "methods"


@dataclass(frozen=True)
class Needs:
    """What a method's stages are made from.

    ``adapter``: "new" for a new adapter in each stage, on the model with the earlier ones merged; "continued"
    for one adapter through all stages; "alone" for a new adapter in each stage, on the model before training.
    ``tuner``: what PEFT calls the kind of adapter. ``past``: examples of the tasks learnt before. ``vector``:
    the head set and the new task's instruction vector.
    """

    adapter: Literal["new", "continued", "alone"] = "new"
    tuner: Literal["lora", "osf"] = "lora"
    past: bool = False
    vector: bool = False


def no_problems(*_: Any) -> Iterable[str]:
    """The checks of a method that has none."""
    return ()


@dataclass(frozen=True)
class Slice:
    """What is known of a method without torch.

    ``colours``: in figures, of the method and of its guided form. ``settings``: the model of its section in
    the configuration. ``problems(settings, name, stages)`` and ``process_problems(settings, name, processes,
    gpus)`` return messages about settings that contradict each other or the rest of the configuration;
    ``name`` is the method or the variant that has them. ``extra_work(stage, settings)``: the work of a stage
    (``estimate.work.Stage``) in addition to plain training of its examples; None: nothing.
    """

    colours: tuple[str, str]
    needs: Needs = field(default_factory=Needs)
    settings: type | None = None
    problems: Callable[[Mapping, str, int], Iterable[str]] = no_problems
    process_problems: Callable[[Mapping, str, int, int], Iterable[str]] = no_problems
    extra_work: Callable[[Any, Mapping], Any] | None = None


def method_names() -> tuple[str, ...]:
    """All methods, unguided: the baseline first, the others by name."""
    names = (file.parent.name.replace("_", "-") for file in METHODS_FOLDER.glob("*/settings.py"))
    return tuple(sorted(names, key=lambda name: (name != BASELINE, name)))


def slice_of(method: str) -> Slice:
    """The slice of a method."""
    return import_module(module_name(method, "settings")).SLICE


def module_name(method: str, part: str) -> str:
    """The module of a method's file ``part``, which it may lack."""
    return f"anamnesis.training.methods.{_folder(method)}.{part}"


def load_part(method: str, part: str) -> ModuleType | None:
    """The module of a method's file ``part``; None without such a file."""
    if not (METHODS_FOLDER / _folder(method) / f"{part}.py").exists():
        return None
    return import_module(module_name(method, part))


def list_problems(
    method: str, settings: Mapping, name: str, keys: Iterable[str], stages: int
) -> Iterator[str]:
    """Messages about settings that are one number or a list with one for each stage."""
    for key in keys:
        value = settings[key]
        if isinstance(value, list | tuple) and len(value) != stages:
            yield (
                f"methods.{method}.{key} (for {name}) lists {len(value)} values: give one number, or one for "
                f"each of the {stages} stages"
            )


def _folder(method: str) -> str:
    return method.replace("-", "_")
