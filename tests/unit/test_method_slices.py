"""A training method is a folder of its own: what a new one touches, and what a change of one makes stale."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anamnesis.core import digest
from anamnesis.core.digest import CodeDigests
from anamnesis.training.slices import method_names, module_name

ROOT = Path(__file__).parents[2]
WATCH = "anamnesis.analyses.within_stage.rerun"  # trains a stage once more
SETTINGS = '''"""The settings of a toy."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from anamnesis.core.fields import Number, Section
from anamnesis.training.slices import Slice


class Toy(Section):
    """A toy."""

    pull: Number = Field(0.5, ge=0, description="Weight of the distance from zero, >= 0.")


def problems(settings: Mapping, name: str, stages: int) -> Iterable[str]:
    """Too much of it."""
    if settings["pull"] > stages:
        yield f"methods.toy.pull = {settings['pull']:g} (for {name}): must be at most {stages}"


SLICE = Slice(colours=("#112233", "#ddeeff"), settings=Toy, problems=problems)
'''
METHOD = '''"""A toy: weights are pulled towards zero."""

from anamnesis.training.method import Method
from anamnesis.training.student import PassNeeds


class Toy(Method):
    """pull · Σ θ²."""

    def terms(self):
        return [Pull(self.stage.settings["pull"], self.stage.trainable.values())]


class Pull:
    """pull · Σ θ² over the trainable weights θ."""

    name, needs = "pull", PassNeeds()

    def __init__(self, pull, weights):
        self.pull, self.weights = pull, list(weights)

    def __call__(self, student):
        return self.pull * sum(weight.square().sum() for weight in self.weights)


METHOD = Toy
'''
ASK = """
import json
from anamnesis.config import load_config
from anamnesis.config.variants import resolve
from anamnesis.figures.style import METHOD_COLOURS
from anamnesis.training.build import method_class

config = load_config(["config.yaml", {"training": {"methods": ["toy", "toy-ivg"]}}])
try:
    load_config(["config.yaml", {"training": {"methods": ["toy"]}, "methods": {"toy": {"pull": 99}}}])
except Exception as error:
    refused = str(error)
print(json.dumps({
    "settings": resolve(config, "toy-ivg").settings, "guided": bool(resolve(config, "toy-ivg").guidance),
    "colours": [METHOD_COLOURS["toy"], METHOD_COLOURS["toy-ivg"]], "class": method_class("toy").__name__,
    "refused": refused,
}))
"""


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the workflow, whose digests are asked for."""
    skip = shutil.ignore_patterns("__pycache__", "reference", "experiments")
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=skip)
    for name in ("config.yaml", "CHANGELOG.md", "docs/explanation/methods.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(digest, "PACKAGE", tmp_path / "workflow" / "anamnesis")
    return tmp_path


def digests(copy: Path) -> dict[tuple[str, ...], str]:
    """(script,) and (script, file of a slice, method) -> digest."""
    code = CodeDigests(copy / "workflow" / "scripts", copy / "code.json")
    found = {(file.stem,): code.of(file.stem) for file in (copy / "workflow" / "scripts").glob("*.py")}
    for method in method_names():
        for script, part, *called in (
            ("train_stage", "method"),
            ("measure", "method", WATCH),
            ("evaluate_stage", "engine"),
        ):
            found[script, part, method] = code.of(script, *called, module_name(method, part))
    return found


def stale(copy: Path, change) -> set[tuple[str, ...]]:
    """What has another digest after ``change()``."""
    before = digests(copy)
    change()
    after = digests(copy)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def contents(copy: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(copy)): file.read_bytes()
        for file in copy.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != "code.json"
    }


def add_toy(copy: Path) -> None:
    """All that a person writes for a new method, from its settings to its documentation."""
    folder = copy / "workflow/anamnesis/training/methods/toy"
    folder.mkdir()
    (folder / "settings.py").write_text(SETTINGS)
    (folder / "method.py").write_text(METHOD)
    for name, line in (
        ("docs/explanation/methods.md", "| `toy` | new | pull |\n"),
        ("CHANGELOG.md", "- Method `toy`.\n"),
    ):
        (copy / name).write_text((copy / name).read_text() + line)


def test_new_method_touches_four_files_and_makes_nothing_stale(copy):
    before = contents(copy)
    assert not stale(copy, lambda: add_toy(copy))
    touched = {name for name, content in contents(copy).items() if before.get(name) != content}
    assert len(touched) <= 4, touched
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["settings"] == {"pull": 0.5}
    assert found["guided"]
    assert found["colours"] == ["#112233", "#ddeeff"]
    assert found["class"] == "Toy"
    assert re.fullmatch(r"methods\.toy\.pull = 99 \(for toy\): must be at most \d+", found["refused"])


def edit(copy: Path, file: str, old: str, new: str):
    path = copy / "workflow/anamnesis" / file

    def change():
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def of(method: str, *scripts: str) -> set[tuple[str, ...]]:
    parts = {"train_stage": "method", "measure": "method", "evaluate_stage": "engine"}
    return {(script, parts[script], method) for script in scripts}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("fvg/method.py", "DEPTH = 9 / 32", "DEPTH = 8 / 32", of("fvg", "train_stage", "measure")),
        ("jfa/engine.py", "adapters[-1]", "adapters[0]", of("jfa", "evaluate_stage")),
        (
            "jfa/latent_tasks.py",
            "SMALLEST = 1e-6",
            "SMALLEST = 1e-5",
            of("jfa", "train_stage", "measure", "evaluate_stage"),
        ),
        ("lwf/settings.py", "2.0, gt=0", "3.0, gt=0", set()),  # a parameter of the rules says it
        ("lwf/settings.py", "#cc79a7", "#cc79a8", set()),
        ("lwf/method.py", "λ · T²", "λ T²", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".py") else "",
)
def test_a_change_of_one_method_makes_only_its_own_results_stale(copy, file, old, new, expected):
    assert stale(copy, edit(copy, f"training/methods/{file}", old, new)) == expected


def test_a_change_of_the_loop_makes_every_trained_stage_stale(copy):
    found = stale(copy, edit(copy, "training/loop.py", "loss.total.item()", "float(loss.total)"))
    assert found >= {("train_stage",), *(("train_stage", "method", name) for name in method_names())}
    assert not {key[0] for key in found} & {"evaluate_stage", "sweep_heads", "prepare_model"}


def test_a_change_of_guidance_leaves_the_tuned_start_as_it_is(copy):
    found = stale(copy, edit(copy, "training/guidance.py", "1.0 - progress", "0.9 - progress"))
    assert {key[0] for key in found} == {"train_stage", "measure"}


def test_a_change_of_the_estimate_makes_nothing_stale(copy):
    def change():
        for file in (copy / "workflow/anamnesis/estimate").glob("*.py"):
            file.write_text(file.read_text(encoding="utf-8") + "\nMORE = 1\n", encoding="utf-8")

    assert not {key for key in stale(copy, change) if not key[0].startswith("tabulate")}


def reword(file: Path) -> int:
    """Put a word before every description of a setting in a file; how many there are."""
    text = file.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    fields = [node for node in calls if getattr(node.func, "id", "") == "Field"]
    said = [
        keyword.value
        for node in fields
        for keyword in node.keywords
        if keyword.arg == "description" and isinstance(keyword.value, ast.Constant)
    ]
    lines = text.splitlines(keepends=True)
    for value in sorted(said, key=lambda value: value.lineno, reverse=True):
        line = lines[value.lineno - 1].encode()
        place = line.index(b'"', value.col_offset) + 1
        lines[value.lineno - 1] = (line[:place] + b"Reworded. " + line[place:]).decode()
    file.write_text("".join(lines), encoding="utf-8")
    return len(said)


def test_rewording_every_description_makes_nothing_stale(copy):
    counts = []

    def change():
        counts.extend(reword(file) for file in (copy / "workflow/anamnesis").rglob("*.py"))

    assert not stale(copy, change)
    assert sum(counts) > 150
