"""Digests of code, so that a result is made again when, and only when, the code that makes it has changed.

Snakemake sees that a script has changed, but not that a module it imports has. Each rule therefore carries
the digest of its script and of every module of this package that the script reaches, over the syntax tree:
comments, formatting and docstrings do not count. Modules that cannot change a number (logging, file handling,
progress) are left out.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
NEUTRAL = {
    "anamnesis",
    "anamnesis.artifacts",
    "anamnesis.compute.processes",
    "anamnesis.digest",
    "anamnesis.errors",
    "anamnesis.hub_access",
    "anamnesis.integrity",
    "anamnesis.job",
    "anamnesis.progress",
    "anamnesis.recovery",
    "anamnesis.stopwatch",
}
DATA = {
    "anamnesis.compute.published": "compute/tables",
    "anamnesis.data.builtin": "data/tables",
    "anamnesis.data.paraphrases": "data/wordings",
    "anamnesis.report.builder": "report/templates",
}  # read by a module


def code_digest(script: str | Path) -> str:
    """Digest (16 hexadecimal digits) of a script and of all package modules and data tables it depends on."""
    digest = hashlib.sha256()
    for name, file in sorted(_reached(Path(script)).items()):
        digest.update(f"{name}:{_digest_source(file)}\n".encode())
    return digest.hexdigest()[:16]


def _reached(script: Path) -> dict[str, Path]:
    reached, waiting = {"__main__": script}, list(_imports(script))
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if name in NEUTRAL or name in reached or file is None:
            continue
        reached[name] = file
        waiting += _imports(file)
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


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Modules a file imports, anywhere in it; ``from a import b`` counts as a and as a.b (if that is a
    module).
    """
    names: list[str] = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


@cache
def _digest_source(file: Path) -> str:
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    tree = _tree(file)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and _is_docstring(body[0])
        ):
            node.body = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
