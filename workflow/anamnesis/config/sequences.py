"""Orders of tasks as the configuration gives them: a list, or the name of a sequence of the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from anamnesis.core.errors import unknown
from anamnesis.core.fields import Name
from anamnesis.data.catalogue import SEQUENCES


def _spell_out(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in SEQUENCES:
        raise unknown("sequence", value, SEQUENCES)
    return list(SEQUENCES[value])


_List = Annotated[tuple[Name, ...], Field(min_length=1)]

Order = Annotated[
    _List,
    BeforeValidator(_spell_out),
    WithJsonSchema(
        {"anyOf": [TypeAdapter(_List).json_schema(), {"type": "string", "enum": list(SEQUENCES)}]}
    ),
]
"""Tasks in the order in which they are learnt, at least one."""
