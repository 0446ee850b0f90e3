"""What the software says of itself to those who cite it: one version, every paper that is followed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLLOWED = (
    "training",
    "analyses",
    "vectors",
    "stats",
)  # packages whose docstrings name the papers they follow


def test_version_and_licence_are_those_of_the_package():
    assert (CITATION["version"], CITATION["license"]) == (PROJECT["version"], PROJECT["license"])


def test_every_paper_that_the_code_follows_is_cited():
    cited = {each["value"] for entry in CITATION["references"] for each in entry.get("identifiers", ())}
    files = [file for name in FOLLOWED for file in (ROOT / "workflow" / "anamnesis" / name).rglob("*.py")]
    named = {number for file in files for number in re.findall(r"arXiv (\d{4}\.\d{5})", file.read_text())}
    assert len(named) > 10
    assert {f"arXiv:{number}" for number in named} - cited == set()


def test_references_can_be_found_and_have_authors():
    for entry in CITATION["references"]:
        assert entry["authors"]
        assert all(set(each) == {"given-names", "family-names"} for each in entry["authors"])
        assert "doi" in entry or re.fullmatch(r"arXiv:\d{4}\.\d{5}", entry["identifiers"][0]["value"])
        assert 2010 < entry["year"] < 2030
    titles = [entry["title"] for entry in CITATION["references"]]
    assert len(set(titles)) == len(titles)


@pytest.mark.skipif(not shutil.which("cffconvert"), reason="cffconvert is not installed")
def test_citation_is_valid():
    subprocess.run(["cffconvert", "--validate", "--infile", ROOT / "CITATION.cff"], check=True)


def test_codemeta_says_the_same():
    """Whether it is written anew is a test of write_config."""
    facts = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
    assert facts["version"] == PROJECT["version"]
    assert facts["license"].endswith(PROJECT["license"])
    assert len(facts["referencePublication"]) == len(CITATION["references"])
    assert {each["@type"] for each in facts["referencePublication"]} == {"ScholarlyArticle"}


def test_changelog_begins_with_this_version():
    """In the form of Keep a Changelog; a tag is proposed for each heading."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", text, flags=re.MULTILINE)
    assert found[0] == (PROJECT["version"], str(CITATION["date-released"]))
    assert found == sorted(found, reverse=True)
    assert len(found) == len(re.findall(r"^## ", text, flags=re.MULTILINE)) - ("\n## Unreleased\n" in text)
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
