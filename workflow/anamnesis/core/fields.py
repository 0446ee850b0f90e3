"""The kinds of values that the configuration is made of."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

# A name becomes part of paths, where results of the endings given here may lie beside its directory.
_NAME = re.compile(r"(?!.*\.(?:csv|html|json|md|parquet|tex)$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Snakemake reads braces in a path as wildcards; control characters are in no path that is meant.
_PATH = re.compile(r"[^\x00-\x1f\x7f{}]+")
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


LARGEST = 10**9
"""Nothing that is counted here goes beyond it; larger numbers would only fail later, in a job."""

Integer = Annotated[int, Field(strict=True, le=LARGEST)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_read_number)]
# as items of a list, where a bound has to stand before the validator to be in the schema
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0), BeforeValidator(_read_number)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1), BeforeValidator(_read_number)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Name = _text(
    _NAME,
    "letters, digits, '.', '_' or '-', beginning with a letter or digit (it names a directory), at most 100, "
    "and not end as a file of results does (.json)",
)
FilePath = _text(_PATH, "a path, without braces and control characters")
Source = _text(
    _SOURCE, "'pypi:<package>==<version>', 'hf:<id>@<revision>' or 'path:<directory or GGUF file>'"
)
Encoder = _text(_ENCODER, "'self', 'path:<directory>' or 'hf:<id>@<revision>'")
Sha256 = _text(_SHA256, "64 lower-case hexadecimal digits")
HeadIndex = tuple[Annotated[Integer, Field(ge=0)], Annotated[Integer, Field(ge=0)]]
Form = Literal["instruction", "knowledge"]


class Section(BaseModel):
    """One immutable block of the configuration; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
