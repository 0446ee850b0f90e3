"""What is not the library and runs with it: Snakefile, rules, scripts, settings, profiles, reference tables.

In a checkout they lie around the library, in an installation inside it, where setup.py has put them. Either
way the paths below ``REPOSITORY`` are the same.
"""

from __future__ import annotations

from pathlib import Path

from anamnesis.core.errors import unknown

_LIBRARY = Path(__file__).resolve().parents[1]
_CHECKOUT = _LIBRARY.parents[1]
IS_CHECKOUT = (_CHECKOUT / "Snakefile").is_file() and _LIBRARY == _CHECKOUT / "workflow" / "anamnesis"
REPOSITORY = _CHECKOUT if IS_CHECKOUT else _LIBRARY / "repository"

DEFAULTS = REPOSITORY / "config.yaml"
"""The default experiment, which every configuration is laid over."""

EXPERIMENTS = REPOSITORY / "workflow" / "experiments"


def experiments() -> list[str]:
    """The names of those that come with the workflow."""
    return sorted(file.stem for file in EXPERIMENTS.glob("*.yaml"))


def is_configuration(word: str) -> bool:
    """Whether a word of a command names a configuration: a YAML file, there or not, or such an experiment."""
    return word.endswith((".yaml", ".yml", ".json")) or word in experiments()


def configuration_file(word: str) -> Path:
    """The file of a configuration, which is a path or, where no such file is here, the name of an experiment
    that comes with the workflow. Raises UserError for a word that is neither.
    """
    if Path(word).exists() or word.endswith((".yaml", ".yml", ".json")):
        return Path(word)
    if word not in experiments():
        raise unknown("configuration file or experiment", word, experiments())
    return EXPERIMENTS / f"{word}.yaml"


def folder_of(kind: str, word: str) -> Path:
    """A folder given by its path or, where there is none, by its name among those of ``workflow/<kind>``."""
    own = REPOSITORY / "workflow" / kind / word
    return own if own.is_dir() and not Path(word).is_dir() else Path(word)
