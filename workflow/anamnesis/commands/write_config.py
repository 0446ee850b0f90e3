"""Write the texts about the configuration: ``python -m anamnesis.commands.write_config [--check]``.

``config.yaml``, its JSON schema and ``docs/reference/configuration.md`` are made from the settings that
``anamnesis.config.models`` composes: keys, defaults, ranges, and the text of each key. That text is the
``description`` of its field or, of a section, the docstring of its class. Only the values of required keys
(the tasks of the default experiment) are those that ``config.yaml`` has. ``codemeta.json`` is written too.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from anamnesis.commands import reported
from anamnesis.commands.codemeta import codemeta_text
from anamnesis.config.describe import Schema, allowed, alternatives, schema_of
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError
from anamnesis.core.repository import IS_CHECKOUT, REPOSITORY

SCHEMA = schema_of(Config)
WIDTH = 118

HEAD = """\
The default experiment. Every key is shown with its default, so that a key you delete keeps the same value,
except where "required" is said. Another experiment is a file with the keys that differ, given on top of this
one:

    snakemake --cores all --configfile workflow/experiments/smoke.yaml

Later files override key by key; lists are replaced whole. "Paper" is arXiv 2406.12227, whose model has 7
billion parameters; "authors' code" is what was released with it. Ranges are checked before anything runs."""

PAGE = """\
# Configuration keys

Every key of `config.yaml`, with what it may be and its default. "Paper" is arXiv 2406.12227, "authors' code"
is what was released with it. This page, `config.yaml` and its JSON schema are written by
`PYTHONPATH=workflow python -m anamnesis.commands.write_config` from the settings in the library; texts and
defaults are changed there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the files are written or, with ``--check``, as they would be written; else 1 and their names."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given not in ([], ["--check"]):
        print("usage: anamnesis write_config [--check]")
        return 0 if given[0] in ("-h", "--help") else 2
    return reported(lambda: _write(check=bool(given)))


def _write(check: bool) -> int:
    if not IS_CHECKOUT:
        raise UserError("write_config is for a checkout of the repository: an installation has no docs")
    stale = {name: text for name, text in written().items() if _read(name) != text}
    if check:
        for name in stale:
            print(f"{name} differs: run python -m anamnesis.commands.write_config", file=sys.stderr)
        return int(bool(stale))
    for name, text in stale.items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")
    print(f"wrote {', '.join(stale) or 'nothing: all is as it should be'}")
    return 0


def written() -> dict[str, str]:
    """File, from the root of the repository -> what it holds."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMA}
    return {
        "config.yaml": config_text(yaml.safe_load(_read("config.yaml"))),
        "workflow/schemas/config.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        "docs/reference/configuration.md": page_text(),
        "codemeta.json": codemeta_text(),
    }


def _read(name: str) -> str:
    path = REPOSITORY / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _section(node: Schema) -> Schema | None:
    """What the schema says inside a key that is a section; None for other keys."""
    return next((option for option in alternatives(node, SCHEMA) if "properties" in option), None)


def _of_each_name(node: Schema) -> Schema | None:
    """The same inside each name of a key that has names of the user's own."""
    return next((_section(each) for each in node.get("patternProperties", {}).values()), None)


def _text(node: Schema) -> str:
    """What is said of a key or section. In a field's description, lines that begin with a blank stand as they
    are; a docstring is one paragraph.
    """
    return node.get("description") or " ".join((_section(node) or {})["description"].split())


# config.yaml


def config_text(given: Mapping[str, Any]) -> str:
    """All keys with their defaults, those that are required with the values of ``given``."""
    head = [part if part.startswith(" ") else " ".join(part.split()) for part in HEAD.split("\n\n")]
    return "\n".join([*_comment("\n\n".join(head), ""), *_entries(SCHEMA, given, "")]) + "\n"


def _entries(section: Schema, given: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, node in section["properties"].items():
        inner, required = _section(node), key in section.get("required", ())
        if not indent:
            yield ""
        yield from _comment("Required. " * (required and not inner) + _text(node), indent)
        value = given[key] if required else node.get("default", {})
        if inner:
            yield f"{indent}{key}:"
            yield from _entries(inner, given.get(key, {}), f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], list):
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_value(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_value(value)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.replace("= ", "=\N{NO-BREAK SPACE}").split("\n"):
        literal = not line or line.startswith(" ")
        pieces = [line] if literal else textwrap.wrap(line, WIDTH - 2 - len(indent), break_on_hyphens=False)
        yield from (f"{indent}# {piece}".rstrip().replace("\N{NO-BREAK SPACE}", " ") for piece in pieces)


def _value(value: Any) -> str:
    """A value in YAML, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str) and re.fullmatch(r"\w[\w./-]*", value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


# docs/reference/configuration.md


def page_text() -> str:
    """The reference page: a list of keys for each section."""
    return "\n".join([PAGE, "", *_keys(SCHEMA, ""), *_sections(SCHEMA, "")])


def _sections(section: Schema, prefix: str) -> Iterator[str]:
    for key, node in section["properties"].items():
        name, inner = f"{prefix}{key}", _section(node)
        text = inner and _text(node)
        if not inner and (inner := _of_each_name(node)):
            name, text = f"{name}.<name>", " ".join(inner["description"].split())
        if inner:
            yield from (f"{'###' if prefix else '##'} `{name}`", "", _markdown(text), "")
            yield from _keys(inner, f"{name}.")
            yield from _sections(inner, f"{name}.")


def _keys(section: Schema, prefix: str) -> Iterator[str]:
    nodes = {key: node for key, node in section["properties"].items() if not _section(node)}
    for key, node in nodes.items():
        required = key in section.get("required", ())
        default = "required" if required else f"default `{_value(node.get('default', {}))}`"
        values = allowed(node, SCHEMA).replace("a section with the keys <name>", "by name")
        first, *lines = _text(node).split("\n")
        yield f"- **`{prefix}{key}`**: {_markdown(values)}; {default}. {_markdown(first)}"
        for before, line in zip([first, *lines], lines, strict=False):
            literal = line.startswith(" ")
            if literal != before.startswith(" "):
                yield ""
            yield f"      {line}" if literal else f"  {_markdown(line)}"
    if nodes:
        yield ""


def _markdown(text: str) -> str:
    """Text with what Markdown would read as HTML or emphasis escaped, except in `code`."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
