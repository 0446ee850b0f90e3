"""Validation errors of the configuration in words: the dotted key, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from anamnesis.config.models import Config
from anamnesis.errors import nearest

_SHOWN_CHARACTERS = 60


def describe_errors(error: ValidationError) -> Iterator[str]:
    """One message per independent problem; what merely follows from a problem further inside is left out."""
    found = error.errors(include_url=False)
    places = [item["loc"] for item in found]
    schema = _config_schema()
    for item in found:
        place = item["loc"]
        if any(len(other) > len(place) and other[: len(place)] == place for other in places):
            continue
        yield _describe_one(item, schema)


@cache
def _config_schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _describe_one(item: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    place, value = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        return _describe_unknown_key(place, value)
    if item["type"] == "missing" and isinstance(place[-1], str):
        return f"missing key {_dotted(place)}: must be {_allowed(_fragment(schema, place), schema)}"
    if item["type"] == "missing":
        place = place[:-1]
    if item["type"] == "value_error":
        return f"{_dotted(place)} = {show_value(value)}: {item['ctx']['error']}"
    if item["type"] == "invalid_key" or place[-1] == "[key]":
        return f"{_dotted(place)} = {show_value(value)}: a name must be text, put it in quotes"
    fragment = _fragment(schema, place)
    close = nearest(value, _options(fragment))
    hint = f"did you mean '{close}'? must be" if close else "must be"
    return f"{_dotted(place)} = {show_value(value)}: {hint} {_allowed(fragment, schema)}"


def _describe_unknown_key(place: tuple[str | int, ...], value: object) -> str:
    *section, key = place
    valid = list(_section_model(section).model_fields)
    prefix = _dotted(section) + "." if section else ""
    close = nearest(key, valid)
    hint = f"did you mean {prefix}{close}? " if close else ""
    where = f"under {_dotted(section)}" if section else "at the top level"
    return f"unknown key {prefix}{key} = {show_value(value)}: {hint}(allowed {where}: {', '.join(valid)})"


def _section_model(place: Sequence[str | int]) -> type[BaseModel]:
    """The model whose keys stand at ``place``, which may pass through a mapping of sections."""
    current: Any = Config
    for part in place:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:
            current = get_args(current)[-1]
    return current


def _dotted(place: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place if part != "[key]")
    return "".join(parts).removeprefix(".")


def show_value(value: object) -> str:
    """``value`` as Python writes it, cut to a length that fits in a message."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 3] + "..."


def _fragment(schema: Mapping[str, Any], place: Sequence[str | int]) -> Mapping[str, Any]:
    """The part of the JSON schema that describes the key at ``place``."""
    node: Mapping[str, Any] = schema
    for part in place:
        node = _resolve(next(iter(_alternatives(node))), schema)
        if isinstance(part, int):
            node = node["prefixItems"][part] if "prefixItems" in node else node["items"]
        elif "properties" in node:
            node = node["properties"][part]
        else:
            node = next(iter(node["patternProperties"].values()))
    return node


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node


def _alternatives(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be apart from null."""
    return [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]


def _options(node: Mapping[str, Any]) -> list[str]:
    return [str(value) for option in _alternatives(node) for value in _enumerated(option)]


def _enumerated(node: Mapping[str, Any]) -> list[Any]:
    return node.get("enum", [node["const"]] if "const" in node else [])


def _allowed(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A JSON-schema fragment in words, such as "an integer >= 1" or "a list of at least 1 of: text"."""
    texts = [_allowed_one(_resolve(option, schema), schema) for option in _alternatives(node)]
    return " or ".join(texts + ["null"] * ("anyOf" in node))


def _allowed_one(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if _enumerated(node):
        return "one of " + ", ".join(str(value) for value in _enumerated(node))
    if node["type"] in ("integer", "number"):
        kind = "an integer" if node["type"] == "integer" else "a number"
        return " ".join([kind, " and ".join(_bounds(node))]).strip()
    if "prefixItems" in node:
        return "[" + ", ".join(_allowed(part, schema) for part in node["prefixItems"]) + "]"
    if node["type"] == "array":
        least = f"at least {node['minItems']}" if node.get("minItems") else "any number"
        return f"a list with {least} of: {_allowed(node['items'], schema)}"
    if node["type"] == "object":
        keys = ", ".join(node.get("properties", {"<name>": None}))
        return f"a section with the keys {keys}"
    if node["type"] == "boolean":
        return "true or false"
    return "text, not empty" if node.get("minLength") else "text"


def _bounds(node: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in node:
            yield f"{sign} {node[name]:g}" if node[name] < 1e6 else f"{sign} {node[name]}"
