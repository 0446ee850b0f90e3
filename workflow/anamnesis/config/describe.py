"""Validation errors of the configuration in words: the dotted key, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from anamnesis.config.models import Config
from anamnesis.core.errors import nearest, show_value
from anamnesis.core.fields import LARGEST

Place = tuple[str | int, ...]


def describe_errors(
    error: ValidationError, model: type[BaseModel] = Config, prefix: Place = ()
) -> Iterator[str]:
    """One message per independent problem; what merely follows from a problem further inside is left out.

    ``model``: what was validated; ``prefix``: the place of its keys in the whole configuration.
    """
    schema = _schema(model)
    found = [
        {**item, "loc": _place_of_keys(item["loc"], schema), "of_key": "[key]" in item["loc"][-1:]}
        for item in error.errors(include_url=False)
    ]
    places = [item["loc"] for item in found]
    outer = [p for p in places if any(len(q) > len(p) and q[: len(p)] == p for q in places)]
    messages = (_describe_one(item, model, prefix) for item in found if item["loc"] not in outer)
    yield from dict.fromkeys(messages)


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _place_of_keys(place: Place, schema: Mapping[str, Any]) -> Place:
    """``place`` without the names that pydantic gives to the kinds of values a key may have."""
    node, keys = schema, ()
    for part in place:
        inner = _inner(node, part, schema)
        if inner is not None:
            node, keys = inner, (*keys, part)
    return keys


def _describe_one(item: Mapping[str, Any], model: type[BaseModel], prefix: Place) -> str:
    place, value, schema = item["loc"], item["input"], _schema(model)
    if item["type"] == "extra_forbidden":
        return _describe_unknown_key(place, value, model, prefix)
    if item["type"] == "missing" and isinstance(place[-1], str):
        allowed = _allowed(_fragment(schema, place), schema)
        return f"missing key {_dotted((*prefix, *place))}: must be {allowed}"
    if item["type"] == "missing":
        place = place[:-1]
    if item["type"] == "string_unicode":  # of a key, its section is given as the place
        within = _dotted((*prefix, *place)) or "top level"
        return f"{within}: {show_value(value)} must be text, and half a surrogate pair is none"
    said = f"{_dotted((*prefix, *place))} = {show_value(value)}"
    if item["type"] == "value_error":
        return f"{said}: {item['ctx']['error']}"
    if item["type"] == "invalid_key" or item["of_key"]:
        return f"{said}: a name must be text, put it in quotes"
    if item.get("ctx", {}).get("le") == LARGEST:
        return f"{said}: must be at most {LARGEST}"
    fragment = _fragment(schema, place)
    close = nearest(value, _options(fragment))
    hint = f"did you mean '{close}'? must be" if close else "must be"
    return f"{said}: {hint} {_allowed(fragment, schema)}"


def _describe_unknown_key(place: Place, value: object, model: type[BaseModel], prefix: Place) -> str:
    *section, key = place
    valid = list(_section_model(model, section).model_fields)
    name = _dotted((*prefix, *section))
    close = nearest(key, valid)
    hint = f"did you mean {_dotted((*prefix, *section, close))}? " if close else ""
    where = f"under {name}" if name else "at the top level"
    shown = f"{_dotted((*prefix, *place))} = {show_value(value)}"
    return f"unknown key {shown}: {hint}(allowed {where}: {', '.join(valid)})"


def _section_model(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """The model whose keys stand at ``place``, which may pass through a mapping of sections."""
    current: Any = model
    for part in place:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:
            current = get_args(current)[-1]
    return current


def _dotted(place: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place if part != "[key]")
    return "".join(parts).removeprefix(".")


def _fragment(schema: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """The part of the JSON schema that describes the key at ``place``."""
    node: Mapping[str, Any] = schema
    for part in place:
        node = _inner(node, part, schema) or {}
    return node


def _inner(node: Mapping[str, Any], part: str | int, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the schema says of one key or item below ``node``: nothing ({}) of one it does not know, None
    where there can be none.
    """
    for option in (_resolve(option, schema) for option in _alternatives(node)):
        if option.get("type") == "array" and isinstance(part, int):
            return dict(enumerate(option.get("prefixItems", ()))).get(part, option.get("items") or {})
        if "properties" in option and isinstance(part, str):
            return option["properties"].get(part, {})
        if option.get("type") == "object" and "properties" not in option:
            return next(iter(option.get("patternProperties", {}).values()), {})
    return None


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
    nullable = any(option.get("type") == "null" for option in node.get("anyOf", ()))
    return " or ".join(texts + ["null"] * nullable)


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
        if name in node and node[name] != LARGEST:  # which is a bound of every integer
            yield f"{sign} {node[name]:g}" if node[name] < 1e6 else f"{sign} {node[name]}"
