"""What the Snakemake workflow catalogue and Snakedeploy look for in a repository."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from anamnesis.config.load import load_config

ROOT = Path(__file__).parents[2]


def test_a_search_finds_the_repository():
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", (ROOT / "README.md").read_text().lower()))


def test_files_lie_where_the_catalogue_looks():
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert {file.suffix for file in (ROOT / "workflow" / "rules").iterdir()} == {".smk"}
    assert (ROOT / "config" / "README.md").is_file()


def test_settings_of_the_catalogue_are_true():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"software-stack-deployment", "report"}
    sections = [
        part for file in rule_files() for part in re.split(r"^\s*(?:use )?rule\b", file, flags=re.M)[1:]
    ]
    new = [section for section in sections if "script:" in section]
    assert usage["software-stack-deployment"]["conda"] == all("conda:" in section for section in new)
    assert usage["report"] == any("report(" in section for section in sections)
    assert not usage["software-stack-deployment"]["apptainer"]
    assert not any("container:" in file for file in rule_files())


def rule_files() -> list[str]:
    return [file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk")]


def test_the_configuration_that_snakedeploy_copies_is_the_only_one():
    assert (ROOT / "config" / "config.yaml").resolve() == ROOT / "config.yaml"


def test_the_case_in_dot_test_is_the_smoke_experiment():
    case = ROOT / ".test" / "config.yaml"
    assert case.resolve() == ROOT / "workflow" / "experiments" / "smoke.yaml"
    assert load_config([ROOT / "config.yaml", case]).suite.name == "smoke"


def test_pages_that_the_instructions_name_are_there():
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert len(linked) == 3
    assert all((ROOT / "config" / page).is_file() for page in linked)
