"""The lists of pinned packages agree and name no place of download; the Makefile checks before it runs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from anamnesis.commands.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def read_lock() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def names_and_versions(pins: list[str]) -> dict[str, str]:
    pairs = (pin.split("==") for pin in pins)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_lock_holds_only_exact_public_versions():
    for pin in read_lock():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-zA-Z.]*", pin), pin


def test_lock_names_no_package_twice():
    assert len(names_and_versions(read_lock())) == len(read_lock())


def test_lock_installs_on_the_oldest_python_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    for pin in read_lock():
        name = pin.split("==")[0]
        with contextlib.suppress(metadata.PackageNotFoundError):  # an extra that is not installed here
            needed = metadata.metadata(name).get("Requires-Python") or ""
            assert SpecifierSet(needed).contains(oldest), (pin, needed)


def test_project_dependencies_are_those_of_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"].values()
    direct = names_and_versions(sum(optional, start=project["dependencies"]))
    locked = names_and_versions(read_lock())
    assert {name: locked.get(name) for name in direct} == direct


def test_conda_environment_is_the_lock():
    environment = yaml.safe_load((ROOT / "envs" / "anamnesis.yaml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == read_lock(), "copy the pins of requirements.lock to envs/anamnesis.yaml"


@pytest.mark.parametrize("target", ["run", "figures"])
def test_make_checks_a_configuration_before_snakemake_reads_it(target):
    """Snakemake would run the expressions in one that asks for it."""
    command = ["make", "--dry-run", target, "CONFIG=a.yaml b.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "a.yaml b.yaml" in line]
    assert lines[0].endswith("-m anamnesis.commands.check config.yaml a.yaml b.yaml")
    assert "snakemake" in lines[1]


@pytest.mark.parametrize("plan", ["-n", "--dry-run", "-np"])
def test_a_plan_prints_no_headline_of_older_results(plan):
    def said(arguments: str) -> str:
        command = ["make", "--dry-run", "run", f"ARGS={arguments}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "commands.headline" in said("")
    assert "commands.headline" not in said(plan)


@pytest.mark.parametrize("target", ["run", "analyses", "figures"])
def test_the_logger_takes_no_target_for_a_second_name_of_its_own(target):
    command = ["make", "--dry-run", target]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--logger anamnesis (\S+)", said) == ["--cores"] * said.count("--logger")
    assert "--logger" in said


def test_commands_go_by_their_names(capsys):
    for name in COMMANDS:
        with contextlib.suppress(SystemExit):  # argparse ends with it
            main([name, "--help"])
        assert re.match(rf"usage: (python -m anamnesis.commands.)?{name} ", "".join(capsys.readouterr()))
    assert main(["nothing"]) == main([]) == 2


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
