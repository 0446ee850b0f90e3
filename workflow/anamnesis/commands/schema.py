"""JSON schema of the configuration, for editors; ``python -m anamnesis.commands.schema`` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from anamnesis.config.models import Config

SCHEMA_PATH = Path(__file__).resolve().parents[2] / "schemas" / "config.schema.json"


def schema_text() -> str:
    """The JSON schema generated from :class:`Config`, as it is stored: indented, with a final newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema to its place in the repository and say where that is."""
    SCHEMA_PATH.parent.mkdir(parents=True, exist_ok=True)
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_PATH}")


if __name__ == "__main__":
    main()
