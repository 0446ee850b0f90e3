"""Imports point one way: no two packages of the library, and no two modules, are in a circle.

The order of the layers is a contract of import-linter (pyproject.toml, `make lint`).
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest
import yaml

from anamnesis.core.digest import PACKAGE
from runs import ROOT


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """(importer, imported), modules of the library; imports inside functions are among them."""
    graph = grimp.build_graph("anamnesis", cache_dir=None)
    found = {(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)}
    assert len(found) > 300
    return found


def circle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The members of a circle, [] where there is none."""
    imported = defaultdict(set)
    for a, b in pairs:
        imported[a].add(b)
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other(imports):
    assert circle(imports) == []


def test_no_packages_import_each_other(imports):
    packages = {(a.split(".")[1], b.split(".")[1]) for a, b in imports if a.count(".") and b.count(".")}
    between = {(a, b) for a, b in packages if a != b}
    assert between >= {("config", "training"), ("training", "engine")}
    assert circle(between) == []


def test_a_circle_is_found():
    assert set(circle([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])) == {"a", "b", "c"}
    assert circle([("a", "b"), ("a", "c"), ("b", "c")]) == []


def test_package_docstrings_name_modules_that_exist():
    """Lines that begin with a name in double backticks list the modules of a package."""
    for file in PACKAGE.rglob("__init__.py"):
        listed = re.findall(r"^``(\w+)``", ast.get_docstring(ast.parse(file.read_text())) or "", re.MULTILINE)
        there = {path.stem for path in file.parent.iterdir()}
        assert set(listed) <= there, (file, set(listed) - there)


def test_docstrings_name_things_that_exist():
    """``package.module`` and ``package.module.name`` in double backticks, unless it is a key of the
    configuration.
    """
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    keys = yaml.safe_load((ROOT / "config.yaml").read_text())
    wrong = [
        (file.name, found)
        for file in PACKAGE.rglob("*.py")
        for found in re.findall(r"``([a-z_]+(?:\.\w+)+)``", file.read_text())
        if found.split(".")[0] in packages and not found.endswith((".py", ".yaml", ".json"))
        if not is_key(keys, found) and not is_name(found)
    ]
    assert wrong == []


def is_key(keys, dotted: str) -> bool:
    for part in dotted.split("."):
        if not isinstance(keys, dict) or part not in keys:
            return keys == {}
        keys = keys[part]
    return True


def is_name(dotted: str) -> bool:
    place, *parts = PACKAGE, *dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if not parts:
        return True
    module = (place / parts[0]).with_suffix(".py")
    return module.exists() and all(
        re.search(rf"\b{part}\b", module.read_text(encoding="utf-8")) for part in parts[1:]
    )


@pytest.mark.parametrize("module", ["anamnesis.figures", "anamnesis.report", "anamnesis.commands.headline"])
def test_import_needs_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
    )
