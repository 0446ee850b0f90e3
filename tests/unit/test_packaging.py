"""The lists of pinned packages agree and name no place of download; the Makefile checks before it runs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from anamnesis.commands.__main__ import COMMANDS, main
from anamnesis.core.extras import EXTRA_OF

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])


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
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    for pin in read_lock():
        name = pin.split("==")[0]
        with contextlib.suppress(metadata.PackageNotFoundError):  # an extra that is not installed here
            needed = metadata.metadata(name).get("Requires-Python") or ""
            assert SpecifierSet(needed).contains(oldest), (pin, needed)


def requirements(name: str = "") -> list[Requirement]:
    """What the library needs or, with a name, what this extra adds."""
    lines = PROJECT["optional-dependencies"][name] if name else PROJECT["dependencies"]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", ["", *EXTRAS])
def test_the_lock_has_a_version_in_every_range(name):
    locked = names_and_versions(read_lock())
    for requirement in requirements(name):
        if requirement.name != "anamnesis":  # another extra
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (
                f"{requirement}, and requirements.lock has {version}"
            )


@pytest.mark.parametrize("name", ["", *EXTRAS])
def test_every_range_says_from_which_version(name):
    for requirement in requirements(name):
        bounds = {part.operator for part in requirement.specifier}
        assert requirement.name == "anamnesis" or bounds & {">=", "=="}, requirement
        assert name == "test" or "==" not in bounds, f"{requirement}: pins are for requirements.lock"


def test_the_workflow_asks_for_the_snakemake_that_the_extra_installs():
    (asked,) = re.findall(r'min_version\("([0-9.]+)"\)', (ROOT / "Snakefile").read_text(encoding="utf-8"))
    (needed,) = (r for r in requirements("workflow") if r.name == "snakemake")
    assert f">={asked}" in map(str, needed.specifier)


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF.items())
def test_extras_bring_what_messages_say(module, extra):
    assert module.replace("vl_convert", "vl-convert-python") in {r.name for r in requirements(extra)}


WITHOUT = """
import sys

sys.modules |= dict.fromkeys({modules})
from anamnesis.commands.__main__ import main

sys.exit(main({arguments}))
"""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "config.yaml"], 0, ""),
        (["estimate", "config.yaml", "--device", "a100-80gb"], 0, ""),
        (["watch", "config.yaml"], 1, "error: rich is not installed: pip install 'anamnesis[workflow]'\n"),
    ],
)
def test_commands_without_the_extras(arguments, code, message):
    """What needs none works; the rest ends in one line with the command that installs what is missing."""
    script = WITHOUT.format(modules=list(EXTRA_OF), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, message)


def test_the_library_without_the_extras():
    """Engine, vectors, training and analyses are imported; of the report the error has the command."""
    script = f"""
import sys

sys.modules |= dict.fromkeys({list(EXTRA_OF)})
import anamnesis.study, anamnesis.training.loop
import anamnesis.report
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: vl_convert is not installed: pip install 'anamnesis[report]'"


def test_conda_environment_is_the_lock():
    environment = yaml.safe_load((ROOT / "envs" / "anamnesis.yaml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == read_lock(), "copy the pins of requirements.lock to envs/anamnesis.yaml"


def test_the_container_is_set_up_by_make_from_the_lock():
    recipe = (ROOT / "Containerfile").read_text(encoding="utf-8")
    (target,) = re.findall(r"RUN make (\S+)", recipe)
    done = subprocess.run(["make", "-n", "-B", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-r requirements.lock" in done.stdout
    assert f"{ROOT}/Snakefile".endswith(re.findall(r'"/opt/anamnesis(/Snakefile)"', recipe)[0])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".venv", "results/*"} <= set(ignored)
    assert not {".git", "workflow", "envs"} & set(ignored)


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("run", ["run a.yaml b.yaml -n"]),
        ("figures", ["run a.yaml b.yaml figures -n"]),
        ("analyses", ["run a.yaml b.yaml analyses -n", "run a.yaml b.yaml -n"]),
        ("estimate", ["estimate a.yaml b.yaml -n"]),
        ("watch", ["watch a.yaml b.yaml"]),
        ("compare", ["compare workflow/reference/default a.yaml b.yaml"]),
    ],
)
def test_make_calls_the_commands(target, lines):
    """One home for what they do."""
    command = ["make", "--dry-run", target, "CONFIG=a.yaml b.yaml", "ARGS=-n"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    called = [line for line in done.stdout.splitlines() if "a.yaml" in line]
    assert called == [f".venv/bin/python -m anamnesis.commands {line}" for line in lines]


def test_commands_go_by_their_names(capsys):
    for name in COMMANDS:
        with contextlib.suppress(SystemExit):  # argparse ends with it
            main([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: anamnesis {name} ")
    assert main(["--help"]) == 0
    assert set(re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE)) == set(COMMANDS)
    assert main([]) == 2


def test_a_command_that_does_not_exist_is_one_line_with_the_nearest(capsys):
    assert main(["estimat", "--help"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown command 'estimat': did you mean 'estimate'? (allowed: run, ")
    assert error.count("\n") == 1


def test_version_says_which_workflow(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(rf"anamnesis \S+, with the workflow in {ROOT}\n", capsys.readouterr().out)


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
