"""Validation errors of the configuration in words: the dotted key, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from anamnesis.core.errors import nearest, show_value
from anamnesis.core.fields import LARGEST, Contradictions

Place = tuple[str | int, ...]
Schema = Mapping[str, Any]


def describe_errors(error: ValidationError, model: type[BaseModel], prefix: Place = ()) -> Iterator[str]:
    """One message per independent problem; what merely follows from a problem further inside is left out.

    ``model``: what was validated; ``prefix``: the place of its keys in the whole configuration.
    """
    schema = schema_of(model)
    found = [(_walk(item["loc"], schema), item) for item in error.errors(include_url=False)]
    places = [tuple(key for key, _ in path) for path, _ in found]
    outer = {p for p in places if any(len(q) > len(p) and q[: len(p)] == p for q in places)}
    messages = (
        message
        for place, (path, item) in zip(places, found, strict=True)
        if place not in outer
        for message in _describe_one(item, [schema, *(node for _, node in path)], place, prefix, schema)
    )
    yield from dict.fromkeys(messages)


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The JSON schema of a section."""
    return model.model_json_schema()


def _walk(place: Place, schema: Schema) -> list[tuple[str | int, Schema]]:
    """The keys of ``place``, each with what the schema says of it, without the names that pydantic gives to
    the kinds of values a key may have.
    """
    node, path = schema, []
    for part in place:
        inner = _inner(node, part, schema)
        if inner is not None:
            node = inner
            path.append((part, node))
    return path


def _inner(node: Schema, part: str | int, schema: Schema) -> Schema | None:
    """What the schema says of one key or item below ``node``: nothing ({}) of one it does not know, None
    where there can be none.
    """
    for option in alternatives(node, schema):
        if option.get("type") == "array" and isinstance(part, int):
            return dict(enumerate(option.get("prefixItems", ()))).get(part, option.get("items") or {})
        if "properties" in option and isinstance(part, str):
            return option["properties"].get(part, {})
        if option.get("type") == "object" and "properties" not in option:
            return next(iter(option.get("patternProperties", {}).values()), {})
    return None


def _describe_one(
    item: Mapping[str, Any], nodes: Sequence[Schema], keys: Place, prefix: Place, schema: Schema
) -> Iterator[str]:
    """``nodes``: what the schema says of the whole and of each of ``keys``."""
    name, shown = dotted((*prefix, *keys)), show_value(item["input"])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Contradictions):
        yield from (f"{name}.{message}".removeprefix(".") for message in cause.args)
    elif item["type"] == "extra_forbidden":
        (section,) = alternatives(nodes[-2], schema)
        yield _describe_unknown_key(keys[-1], shown, dotted((*prefix, *keys[:-1])), section["properties"])
    elif item["type"] == "missing":
        place, node = (keys, nodes[-1]) if isinstance(keys[-1], str) else (keys[:-1], nodes[-2])
        stated = f"missing key {name}" if place == keys else f"{dotted((*prefix, *place))} = {shown}"
        yield f"{stated}: must be {allowed(node, schema)}"
    elif item["type"] == "string_unicode":  # of a key, its section is given as the place
        yield f"{name or 'top level'}: {shown} must be text, and half a surrogate pair is none"
    elif cause:
        yield f"{name} = {shown}: {cause}"
    elif item["type"] == "invalid_key" or "[key]" in item["loc"][-1:]:
        yield f"{name} = {shown}: a name must be text, put it in quotes"
    elif item.get("ctx", {}).get("le") == LARGEST:
        yield f"{name} = {shown}: must be at most {LARGEST}"
    else:
        options = [str(value) for option in alternatives(nodes[-1], schema) for value in _enumerated(option)]
        close = nearest(item["input"], options)
        hint = f"did you mean '{close}'? " if close else ""
        yield f"{name} = {shown}: {hint}must be {allowed(nodes[-1], schema)}"


def _describe_unknown_key(key: str | int, shown: str, section: str, known: Mapping[str, Any]) -> str:
    close = nearest(key, known)
    within, where = (f"{section}.", f"under {section}") if section else ("", "at the top level")
    hint = f"did you mean {within}{close}? " if close else ""
    return f"unknown key {within}{key} = {shown}: {hint}(allowed {where}: {', '.join(known)})"


def dotted(place: Sequence[str | int]) -> str:
    """A place as it is written: ``("training", "seeds", 0)`` -> ``training.seeds[0]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place if part != "[key]")
    return "".join(parts).removeprefix(".")


def alternatives(node: Schema, schema: Schema) -> list[Schema]:
    """What a value may be apart from null, references resolved."""
    options = [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]
    return [schema["$defs"][o["$ref"].rsplit("/", 1)[-1]] if "$ref" in o else o for o in options]


def _enumerated(node: Schema) -> list[Any]:
    return node.get("enum", [node["const"]] if "const" in node else [])


def allowed(node: Schema, schema: Schema) -> str:
    """A JSON-schema fragment in words, such as "an integer >= 1" or "a list of at least 1 of: text"."""
    texts = [_allowed_one(option, schema) for option in alternatives(node, schema)]
    nullable = any(option.get("type") == "null" for option in node.get("anyOf", ()))
    return " or ".join(texts + ["null"] * nullable)


def _allowed_one(node: Schema, schema: Schema) -> str:
    if _enumerated(node):
        return "one of " + ", ".join(str(value) for value in _enumerated(node))
    if node["type"] in ("integer", "number"):
        kind = "an integer" if node["type"] == "integer" else "a number"
        return " ".join([kind, " and ".join(_bounds(node))]).strip()
    if "prefixItems" in node:
        return "[" + ", ".join(allowed(part, schema) for part in node["prefixItems"]) + "]"
    if node["type"] == "array":
        least = f"at least {node['minItems']}" if node.get("minItems") else "any number"
        return f"a list with {least} of: {allowed(node['items'], schema)}"
    if node["type"] == "object":
        return f"a section with the keys {', '.join(node.get('properties', {'<name>': None}))}"
    if node["type"] == "boolean":
        return "true or false"
    return "text, not empty" if node.get("minLength") else "text"


def _bounds(node: Schema) -> Iterator[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in node and node[name] != LARGEST:  # which is a bound of every integer
            yield f"{sign} {node[name]:g}" if node[name] < 1e6 else f"{sign} {node[name]}"
