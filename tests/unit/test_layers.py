"""Imports point one way: no two packages of the library, and no two modules, are in a circle.

The order of the layers is a contract of import-linter (pyproject.toml, `make lint`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


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
