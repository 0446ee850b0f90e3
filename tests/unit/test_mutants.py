"""The list of modules for mutation testing names what exists, and the copy of a module does what it does."""

from __future__ import annotations

import tomllib

import pytest

from mutants import MODULES, ROOT, decorated_afterwards


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_their_tests_exist(module):
    assert (ROOT / "workflow" / "anamnesis" / f"{module}.py").is_file()
    for name in MODULES[module]:
        assert (ROOT / "tests" / "unit" / f"test_{name.partition('::')[0]}").is_file()


def test_what_may_survive_belongs_to_a_module_and_has_a_reason():
    entries = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["survivor"]
    assert all(
        set(entry) == {"module", "change", "reason"} and entry["module"] in MODULES for entry in entries
    )


def test_decorators_are_applied_after_the_function_in_their_order():
    source = """
def twice(f):
    return lambda x: 2 * f(x)

def plus(n):
    return lambda f: lambda x: f(x) + n

@twice
@plus(
    3
)
def first(x):
    return x

def second(x):
    return first(x)

@plus(1)
def third(x): return x
"""
    moved = decorated_afterwards(source)
    assert "@" not in moved
    for text in (source, moved):
        names: dict = {}
        exec(text, names)
        assert [names[name](10) for name in ("first", "second", "third")] == [26, 26, 11]
