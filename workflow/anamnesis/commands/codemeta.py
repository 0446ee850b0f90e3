"""``codemeta.json``, made from ``pyproject.toml`` and ``CITATION.cff``: ``write_config`` writes it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from anamnesis.core.repository import REPOSITORY


def codemeta_text(root: Path = REPOSITORY) -> str:
    """The description of this software in the terms of CodeMeta 2.0."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    facts = {
        "@context": "https://doi.org/10.5063/schema/codemeta-2.0",
        "@type": "SoftwareSourceCode",
        "name": citation["title"],
        "identifier": project["name"],
        "version": project["version"],
        "dateModified": str(citation["date-released"]),
        "description": " ".join(citation["abstract"].split()),
        "keywords": citation["keywords"],
        "license": f"https://spdx.org/licenses/{project['license']}",
        "programmingLanguage": ["Python", "Snakemake"],
        "runtimePlatform": f"Python {project['requires-python']}",
        "operatingSystem": "POSIX",
        "author": [_author(each) for each in citation["authors"]],
        "referencePublication": [_article(each) for each in citation["references"]],
    }
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _author(entry: Mapping[str, str]) -> dict[str, str]:
    if "name" in entry:
        return {"@type": "Organization", "name": entry["name"]}
    return {"@type": "Person", "givenName": entry["given-names"], "familyName": entry["family-names"]}


def _article(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A reference of CITATION.cff: by its DOI, or by its number of arXiv."""
    numbers = [each["value"].removeprefix("arXiv:") for each in entry.get("identifiers", ())]
    place = f"https://doi.org/{entry['doi']}" if "doi" in entry else f"https://arxiv.org/abs/{numbers[0]}"
    authors = [_author(each) for each in entry["authors"]]
    return {"@type": "ScholarlyArticle", "@id": place, "name": entry["title"], "author": authors}
