"""Digests of code, so that a result is made again when, and only when, the code that makes it has changed.

Snakemake sees that a script has changed, but not that a module it imports has. Each rule therefore carries
the digest of its script and of every module of this package that the script reaches, over the syntax tree:
comments, formatting, docstrings, descriptions of settings and imports for annotations do not count. Modules
that cannot change a number (logging, file handling, progress) are left out. A script does not reach what it
loads by name, such as a training method: its rule names that module, job by job.
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
READING = 2  # version of _read, whose answers are kept in a file: raise it with every change there
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
    "anamnesis.core.provenance",
    "anamnesis.core.recovery",
    "anamnesis.core.stopwatch",
    "anamnesis.training.slices",
}
DATA = {
    "anamnesis.estimate.lengths": "estimate/tables",
    "anamnesis.data.builtin": "data/tables",
    "anamnesis.data.paraphrases": "data/wordings",
    "anamnesis.report.builder": "report/templates",
}  # read by a module


class Sources:
    """The digest of each source file and the modules it imports.

    ``known``: both of earlier calls, by Python's version and the SHA-256 of the content; ``used``: both of
    the files that were asked for.
    """

    def __init__(self, known: Mapping[str, Sequence] | None = None):
        self.known, self.used = known or {}, {}
        self._files: dict[Path, Sequence] = {}

    def __call__(self, file: Path) -> Sequence:
        if file not in self._files:
            content = file.read_bytes()
            key = f"{READING} {sys.version_info[:2]} {hashlib.sha256(content).hexdigest()}"
            self.used[key] = self._files[file] = self.known.get(key) or _read(file.suffix, content)
        return self._files[file]


class CodeDigests:
    """Digests of all scripts of a folder. ``memory``: a file that keeps what was read, as parsing them
    takes two seconds, in every job of a cluster twice.
    """

    def __init__(self, scripts: Path, memory: Path):
        self.scripts, self.sources = Path(scripts), Sources(_remembered(memory))
        self._known: dict[tuple[str, ...], str] = {}
        for file in self.scripts.glob("*.py"):
            self.of(file.stem)
        for file in PACKAGE.rglob("*.py"):
            self.sources(file)
        if self.sources.used.keys() != self.sources.known.keys():
            with suppress(OSError, UserError):  # read-only, or full: the next one parses again
                write_json(memory, self.sources.used)

    def of(self, script: str, *modules: str) -> str:
        """The digest of a script by its name, with those ``modules`` that it loads by name which exist."""
        key = (script, *modules)
        if key not in self._known:
            self._known[key] = code_digest(self.scripts / f"{script}.py", self.sources, modules)
        return self._known[key]


def _remembered(memory: Path) -> dict:
    """Nothing of a damaged memory."""
    with suppress(UserError):
        content = read_json(memory)
        if all(isinstance(entry, list) and len(entry) == 2 for entry in content.values()):
            return content
    return {}


def code_digest(script: str | Path, sources: Sources | None = None, modules: Sequence[str] = ()) -> str:
    """Digest (16 hexadecimal digits) of a script and of all package modules and data tables it depends on,
    those that ``modules`` reach included.
    """
    digest, sources = hashlib.sha256(), sources or Sources()
    for name, file in sorted(reached(Path(script), sources, modules).items()):
        digest.update(f"{name}:{sources(file)[0]}\n".encode())
    return digest.hexdigest()[:16]


def reached(script: Path, sources: Sources, modules: Sequence[str] = ()) -> dict[str, Path]:
    """Name -> file of all that a script and ``modules`` depend on."""
    files, waiting = {"__main__": script}, [*sources(script)[1], *modules]
    while waiting:
        name = waiting.pop()
        if name in NEUTRAL or name in files or (file := _file_of(name)) is None:
            continue
        files[name] = file
        waiting += sources(file)[1]
    for name in DATA.keys() & files.keys():
        files |= {
            f"{name} {file.name}": file for file in PACKAGE.joinpath(DATA[name]).iterdir() if file.is_file()
        }
    return files


def _file_of(name: str) -> Path | None:
    if not name.startswith("anamnesis"):
        return None
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.exists():
            return file
    return None


def _read(suffix: str, content: bytes) -> list:
    """[digest, modules it imports] of a file: of code without what only people read."""
    if suffix != ".py":
        return [hashlib.sha256(content).hexdigest(), []]
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name_of(node.func) == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [part for part in body if not _is_for_people(part)] or [ast.Pass()]
    return [hashlib.sha256(ast.dump(tree).encode()).hexdigest(), _imports(tree)]


def _name_of(expression: ast.expr) -> str:
    """The last part of a dotted name: ``Field`` of ``Field`` and of ``pydantic.Field``; "" of all else."""
    return getattr(expression, "id", getattr(expression, "attr", ""))


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


def _is_for_people(node: ast.stmt) -> bool:
    """Whether a statement is a text alone (a docstring, or what is said of the name above it), or imports for
    annotations, which never run.
    """
    if isinstance(node, ast.If):
        return _name_of(node.test) == "TYPE_CHECKING"
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
