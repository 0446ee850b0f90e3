"""The digest of a script and all it imports: what changes it, and what does not."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from anamnesis.core import digest
from anamnesis.core.digest import PACKAGE, CodeDigests, code_digest

SCRIPTS = PACKAGE.parent / "scripts"
SCRIPT = '''"""A script."""
from anamnesis.engine.heads import find_heads
import anamnesis.core.errors


def main(path):
    """Does it."""
    return path  # at once
'''
HEADS = '''"""Heads."""


class Geometry:
    """Of a model."""

    size = 1
    if TYPE_CHECKING:
        from anamnesis.models.other import X
    """Of a head."""
    rank = Field(1, description="Of a head.")


def find_heads(model):
    from anamnesis.models.deep import look
    return look(model)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of four modules, of which the script reaches three; one of these is neutral."""
    files = {
        "models/__init__.py": "",
        "engine/heads.py": HEADS,
        "models/deep.py": "def look(model):\n    return 1\n",
        "models/other.py": "X = 1\n",
        "errors.py": "LIMIT = 1\n",
        "data/builtin.py": "X = 1\n",
        "data/tables/words.csv": "word\nant\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(digest, "PACKAGE", tmp_path)
    return tmp_path


def digest_now(package: Path) -> str:
    """The digest, with a memory of what was there before."""
    memory = package / "memory.json"
    (package / "scripts").mkdir(exist_ok=True)
    shutil.copy(package / "script.py", package / "scripts")
    found = CodeDigests(package / "scripts", memory).of("script")
    assert (
        found == code_digest(package / "script.py") == CodeDigests(package / "scripts", memory).of("script")
    )
    return found


def changed(package: Path, file: str, old: str, new: str) -> bool:
    before = digest_now(package)
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    return digest_now(package) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("script.py", "return path", "return str(path)"),
        ("engine/heads.py", "size = 1", "size = 2"),
        ("models/deep.py", "return 1", "return 2"),  # imported inside a function of an imported module
        ("models/deep.py", "(model)", "(decoder)"),
        ("engine/heads.py", "Field(1", "Field(2"),
    ],
)
def test_code_that_is_reached_counts(package, file, old, new):
    assert changed(package, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("script.py", "  # at once", ""),
        ("script.py", '"""Does it."""', '"""Does it\n\n    well."""'),
        ("script.py", "def main(path):", "\n\ndef main(\n    path\n):"),
        ("engine/heads.py", '"""Of a model."""', '"""Of any model."""'),
        ("engine/heads.py", '"""Heads."""', ""),
        ("engine/heads.py", '"""Of a head."""', ""),
        ("engine/heads.py", 'description="Of a head."', 'description="Of each head."'),
        ("engine/heads.py", ', description="Of a head."', ""),
        ("models/other.py", "X = 1", "X = 2"),  # not imported
        ("errors.py", "LIMIT = 1", "LIMIT = 2"),  # imported, but no number depends on it
        ("data/tables/words.csv", "ant", "bee"),  # read by a module that is not reached
    ],
)
def test_comments_docstrings_formatting_and_other_modules_do_not_count(package, file, old, new):
    assert not changed(package, file, old, new)


def test_text_that_is_no_docstring_counts(package):
    assert changed(package, "models/deep.py", "return 1", 'return "a text"')
    assert changed(package, "models/deep.py", "a text", "another text")


def test_data_read_by_a_reached_module_counts(package):
    (package / "script.py").write_text("from anamnesis.data.builtin import X\n")
    assert changed(package, "data/tables/words.csv", "ant", "bee")


def test_same_code_in_another_place_has_the_same_digest(package, tmp_path, monkeypatch):
    before = digest_now(package)
    for file in package.rglob("*.py"):
        copy = tmp_path / "copy" / file.relative_to(package)
        if tmp_path / "copy" not in file.parents:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text())
    monkeypatch.setattr(digest, "PACKAGE", tmp_path / "copy")
    assert digest_now(tmp_path / "copy") == before
    assert len(before) == 16


def test_what_is_remembered_is_not_parsed_again_and_a_damaged_memory_is_none(package, monkeypatch):
    before, memory = digest_now(package), package / "memory.json"
    with monkeypatch.context() as patched:
        patched.setattr(digest.ast, "parse", lambda *_: pytest.fail("parsed"))
        assert CodeDigests(package / "scripts", memory).of("script") == before
    for content in ("", "[]", '{"a": 1}', memory.read_text()[:-20]):
        memory.write_text(content)
        assert digest_now(package) == before
    memory.unlink()
    memory.mkdir()  # where nothing can be written
    assert CodeDigests(package / "scripts", memory).of("script") == before


def test_every_script_of_the_workflow_reaches_what_it_imports():
    """No relative or star import, which the digest would not see through, and no module that is not found."""
    files = [*SCRIPTS.glob("*.py"), *PACKAGE.rglob("*.py")]
    assert len(files) > 50
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                assert node.names[0].name != "*", file
                if node.module.startswith("anamnesis"):
                    assert digest._file_of(node.module), f"{file}: {node.module}"


def test_data_that_modules_read_is_known_to_the_digest():
    """Every file of the package that is not Python belongs to a module named in DATA, but for the catalogue:
    jobs get their parts of an entry as parameters, so that another entry makes nothing stale.
    """
    others = {
        str(path.parent.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")
    }
    assert others - {"data/catalogue"} == set(digest.DATA.values())
    assert all(digest._file_of(name) for name in digest.DATA)
