"""The kinds of values that the configuration is made of."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from anamnesis.core.errors import UserError, show_value

# A name becomes part of paths, where results of the endings given here may lie beside its directory.
_NAME = re.compile(r"(?!.*\.(?:csv|html|json|md|parquet|tex)$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Snakemake reads braces in a path as wildcards: only those of a variable are allowed, as it is written out.
# Control characters are in no path that is meant.
_PATH = re.compile(r"(?:[^\x00-\x1f\x7f{}]|\$\{[A-Za-z0-9_]+\})+")
_HUB = r"hf:(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*@[A-Za-z0-9][A-Za-z0-9._/-]*"
_FOLDER = r"path:(?=.*\S)[^\x00-\x1f\x7f]+"
_SOURCE = re.compile(rf"pypi:[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9._+-]+|{_HUB}|{_FOLDER}")
_ENCODER = re.compile(rf"self|{_HUB}|{_FOLDER}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _read_number(value: object) -> object:
    """Turn the text PyYAML makes of ``1e-3`` into a number; anything else passes through to be judged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def must(holds: Callable[[str], object], rule: str) -> AfterValidator:
    """A validator that refuses a text for which ``holds`` is false, and says ``rule``."""

    def check(value: str) -> str:
        if not holds(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def not_reserved(names: Iterable[str]) -> AfterValidator:
    """Refuses names of directories that the workflow makes itself."""
    rule = f"that directory holds other results, use no name of {', '.join(names)}"
    return must(lambda name: name not in names, rule)


def _text(pattern: re.Pattern[str], allowed: str, expand: Callable[[str], str] = str) -> tuple[object, ...]:
    """What makes of ``str`` a type that must match ``pattern`` whole once ``expand`` has been called on it;
    ``allowed`` says in words what matches.
    """
    schema = {"type": "string", "pattern": f"^(?:{pattern.pattern})$"}
    rule = must(pattern.fullmatch, f"must be {allowed}")
    # a length is asked for as pydantic looks for half a surrogate pair only then
    return Field(min_length=1), AfterValidator(expand), rule, WithJsonSchema(schema)


def expand_path(path: str) -> str:
    """``path`` as a shell would read it: ``~``, ``~user``, ``$NAME`` and ``${NAME}`` at their values.

    Raises UserError for a variable that is not set and a user who is not there: as they stand, such names
    would become folders.
    """
    for name in re.findall(r"\$\{?(\w+)\}?", path, re.ASCII):
        if name not in os.environ:
            raise UserError(f"the environment variable {name} is not set; set it, or write the path out")
    expanded = os.path.expanduser(os.path.expandvars(path))
    if expanded.startswith("~"):
        user = expanded[1:].split("/")[0]
        raise UserError(f"there is no user {user}; for a folder here write ./~{user}")
    return expanded


def _expand_source(source: str) -> str:
    kind, _, path = source.partition(":")
    return f"path:{expand_path(path)}" if kind == "path" else source


LARGEST = 10**9
"""Nothing that is counted here goes beyond it; larger numbers would only fail later, in a job."""

Integer = Annotated[int, Field(strict=True, le=LARGEST)]
# pydantic keeps one upper bound: a smaller one of a field's own would give way to that of Integer
Together = Annotated[int, Field(strict=True, ge=1, le=64)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_read_number)]
# as items of a list, where a bound has to stand before the validator to be in the schema
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0), BeforeValidator(_read_number)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1), BeforeValidator(_read_number)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str,
    *_text(
        _NAME,
        "letters, digits, '.', '_' or '-', beginning with a letter or digit (it names a directory), at most "
        "100, and not end as a file of results does (.json)",
    ),
]
FilePath = Annotated[str, *_text(_PATH, "a path, without braces and control characters", expand_path)]
Source = Annotated[
    str,
    *_text(
        _SOURCE,
        "'pypi:<package>==<version>', 'hf:<id>@<revision>' or 'path:<directory or GGUF file>'",
        _expand_source,
    ),
]
Encoder = Annotated[
    str, *_text(_ENCODER, "'self', 'path:<directory>' or 'hf:<id>@<revision>'", _expand_source)
]
Sha256 = Annotated[str, *_text(_SHA256, "64 lower-case hexadecimal digits")]
HeadIndex = tuple[Annotated[Integer, Field(ge=0)], Annotated[Integer, Field(ge=0)]]
Form = Literal["instruction", "knowledge"]


UNCHECKED = "unchecked"
"""Context of a validation that looks at the keys and values of sections, but not for contradictions."""


class Contradictions(ValueError):
    """Values of a section that do not go together. The arguments are messages; each begins with its key."""

    def __str__(self) -> str:
        return "; ".join(self.args)


class Section(BaseModel):
    """One immutable block of the configuration; a key it does not know is an error, and so is a list (of
    anything but fractions) that names something twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def contradictions(self) -> Iterator[str]:
        """The rules that involve several keys of this section: one message for each that is broken."""
        return iter(())

    @model_validator(mode="after")
    def _keep_the_rules(self, info: ValidationInfo) -> Self:
        if info.context == UNCHECKED:
            return self
        repeated = (message for key, value in self for message in repetitions(key, value))
        if messages := [*repeated, *self.contradictions()]:
            raise Contradictions(*messages)
        return self


def repetitions(key: str, values: object) -> Iterator[str]:
    """A message for each item that ``values`` lists more than once, where they are a list of names or
    integers; fractions, one for each stage, may be equal.
    """
    if isinstance(values, tuple) and not any(isinstance(value, float) for value in values):
        for value, count in Counter(values).items():
            if count > 1:
                yield f"{key}: {show_value(value)} is listed {count} times, list it once"
