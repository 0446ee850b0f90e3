"""Digests of code, so that a result is made again when, and only when, the code that makes it has changed.

Snakemake sees that a script has changed, but not that a module it imports has. Each rule therefore carries
the digest of its script and of every module of this package that the script reaches, over the syntax tree:
comments, formatting and docstrings do not count. Modules that cannot change a number (logging, file handling,
progress) are left out.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from anamnesis.core.artifacts import read_json, write_json
from anamnesis.core.errors import UserError

PACKAGE = Path(__file__).parents[1]
NEUTRAL = {
    "anamnesis",
    "anamnesis.core.artifacts",
    "anamnesis.core.processes",
    "anamnesis.core.digest",
    "anamnesis.core.errors",
    "anamnesis.core.hub_access",
    "anamnesis.core.integrity",
    "anamnesis.core.job",
    "anamnesis.core.progress",
    "anamnesis.core.recovery",
    "anamnesis.core.stopwatch",
}
DATA = {
    "anamnesis.estimate.lengths": "estimate/tables",
    "anamnesis.data.builtin": "data/tables",
    "anamnesis.data.paraphrases": "data/wordings",
    "anamnesis.report.builder": "report/templates",
}  # read by a module


class Sources:
    """What source files say: the digest of each and the modules it imports.

    ``known``: what they said earlier, by Python's version and the SHA-256 of the content; ``said``: the same
    of the files that were asked for.
    """

    def __init__(self, known: Mapping[str, Sequence] | None = None):
        self.known, self.said = known or {}, {}
        self._files: dict[Path, Sequence] = {}

    def __call__(self, file: Path) -> Sequence:
        if file not in self._files:
            content = file.read_bytes()
            key = f"{sys.version_info[:2]} {hashlib.sha256(content).hexdigest()}"
            self.said[key] = self._files[file] = self.known.get(key) or _read(file.suffix, content)
        return self._files[file]


def code_digests(scripts: Path, memory: Path) -> dict[str, str]:
    """The digest of every script of a folder, by its name. ``memory``: a file that keeps what sources said,
    as parsing them takes two seconds, in every job of a cluster twice.
    """
    sources = Sources(_remembered(memory))
    found = {file.stem: code_digest(file, sources) for file in sorted(Path(scripts).glob("*.py"))}
    if sources.said.keys() != sources.known.keys():
        with suppress(OSError, UserError):  # read-only, or full: the next one parses again
            write_json(memory, sources.said)
    return found


def _remembered(memory: Path) -> dict:
    """Nothing of a damaged memory."""
    with suppress(UserError):
        content = read_json(memory)
        if all(isinstance(entry, list) and len(entry) == 2 for entry in content.values()):
            return content
    return {}


def code_digest(script: str | Path, sources: Sources | None = None) -> str:
    """Digest (16 hexadecimal digits) of a script and of all package modules and data tables it depends on."""
    digest, sources = hashlib.sha256(), sources or Sources()
    for name, file in sorted(_reached(Path(script), sources).items()):
        digest.update(f"{name}:{sources(file)[0]}\n".encode())
    return digest.hexdigest()[:16]


def _reached(script: Path, sources: Sources) -> dict[str, Path]:
    reached, waiting = {"__main__": script}, list(sources(script)[1])
    while waiting:
        name = waiting.pop()
        if name in NEUTRAL or name in reached or (file := _file_of(name)) is None:
            continue
        reached[name] = file
        waiting += sources(file)[1]
    for name in DATA.keys() & reached.keys():
        reached |= {
            f"{name} {file.name}": file for file in PACKAGE.joinpath(DATA[name]).iterdir() if file.is_file()
        }
    return reached


def _file_of(name: str) -> Path | None:
    if not name.startswith("anamnesis"):
        return None
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.exists():
            return file
    return None


def _read(suffix: str, content: bytes) -> list:
    """[digest, modules it imports] of a file: of code without comments, formatting and docstrings."""
    if suffix != ".py":
        return [hashlib.sha256(content).hexdigest(), []]
    tree = ast.parse(content)
    names = _imports(tree)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and _is_docstring(body[0])
        ):
            node.body = body[1:] or [ast.Pass()]
    return [hashlib.sha256(ast.dump(tree).encode()).hexdigest(), names]


def _imports(tree: ast.Module) -> list[str]:
    """Modules a file imports, anywhere in it; ``from a import b`` counts as a and as a.b (if that is a
    module).
    """
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
