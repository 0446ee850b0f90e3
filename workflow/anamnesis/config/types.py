"""The kinds of values that the configuration is made of."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SOURCE = re.compile(r"pypi:[A-Za-z0-9._-]+==\S+|hf:[^\s@]+@[^\s@]+|path:.*\S.*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _read_number(value: object) -> object:
    """Turn the text PyYAML makes of ``1e-3`` into a number; anything else passes through to be judged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _must_match(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def _text(pattern: re.Pattern[str], allowed: str) -> object:
    """A string type that must match ``pattern`` whole; ``allowed`` says so in words in the error."""
    return Annotated[
        str,
        _must_match(pattern, allowed),
        WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern.pattern})$"}),
    ]


Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_read_number)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Name = _text(
    _NAME, "letters, digits, '.', '_' or '-', beginning with a letter or digit (it names a directory)"
)
Source = _text(
    _SOURCE, "'pypi:<package>==<version>', 'hf:<id>@<revision>' or 'path:<directory or GGUF file>'"
)
Sha256 = _text(_SHA256, "64 lower-case hexadecimal digits")
HeadIndex = tuple[Annotated[Integer, Field(ge=0)], Annotated[Integer, Field(ge=0)]]
Form = Literal["instruction", "knowledge"]


class Section(BaseModel):
    """One immutable block of the configuration; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
