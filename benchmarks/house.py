"""The figures of the layout: lines, long functions and files, names used twice, comments, imports.

It reads the source only and has no bar of its own: what must hold is tested (``tests/unit/test_layers.py``).
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "workflow" / "anamnesis"
STANDARD = {"__init__.py", "settings.py", "method.py", "cost.py", "colour.py"}
STANDARD |= {"measure.py", "table.py", "figure.py", "section.py"}
"""Names that every slice may have: those of methods and those of analyses."""
LONGEST_FUNCTION, LONGEST_FILE = 40, 300
PRAGMA = re.compile(r"#\s*(noqa|fmt:|type:|pragma)|#\s*[-=]{4,}")
IMPORT = """
import sys, time
start = time.perf_counter()
import anamnesis.config
print(time.perf_counter() - start, *sorted({"torch", "pandas", "numpy"} & set(sys.modules)))
"""


def main() -> None:
    """Print one line for each figure, and below it what it counts."""
    files = sorted(LIBRARY.rglob("*.py"))
    glue = [*ROOT.glob("workflow/scripts/*.py"), *ROOT.glob("workflow/rules/*.smk")]
    library = _lines(files)
    names = Counter(path.name for path in files if path.name not in STANDARD)
    comments = sum(len(set(_comments(path))) for path in files)
    packages = package_imports(files)
    _print("lines of the library", library)
    _print("lines of scripts and rules", _lines(glue))
    _print(
        f"functions over {LONGEST_FUNCTION} lines",
        long_functions([*files, *ROOT.glob("workflow/scripts/*.py")]),
    )
    _print(f"files over {LONGEST_FILE} lines", [p for p in files if _lines([p]) > LONGEST_FILE])
    _print("file names used twice", [name for name, count in names.items() if count > 1])
    _print("lines with a comment", f"{comments} ({100 * comments / library:.1f} % of the library)")
    _print(
        "packages that import each other",
        [f"{a} <-> {b}" for a in packages for b in packages[a] if a < b and a in packages[b]],
    )
    _print("circles of packages", circles(packages))
    _print("imports that run back up", excepted_imports())
    seconds, loaded = import_time()
    _print(
        "import of the configuration", f"{1000 * seconds:.0f} ms; of torch, pandas, numpy it loads: {loaded}"
    )


def _print(title: str, found: object) -> None:
    listed = list(found) if isinstance(found, list) else None
    print(f"{title:32} {found if listed is None else len(listed)}")
    for item in listed or ():
        print(f"    {item.relative_to(ROOT) if isinstance(item, Path) else item}")


def _lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def _comments(path: Path) -> Iterator[int]:
    """The lines with a comment that is for a reader, not for a tool."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and not PRAGMA.match(token.string):
                yield token.start[0]


def long_functions(paths: Iterable[Path]) -> list[str]:
    """``file:line name (lines)`` of each function that is too long, its decorators and docstring included."""
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({length})")
    return found


def package_imports(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Package -> the packages of the library it imports, inside functions too."""
    imports: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        package = path.relative_to(LIBRARY).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            targets = [module.split(".")[1] for module in modules if module.startswith("anamnesis.")]
            imports[package] |= {target for target in targets if target != package}
    return {package: imports[package] for package in sorted(imports)}


def circles(imports: dict[str, set[str]]) -> list[str]:
    """Groups of packages each of which imports all others of its group, over others or not."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            new = imports.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    reach = {package: reached(package) for package in imports}
    groups = {tuple(b for b in imports if a in reach[b] and b in reach[a]) for a in imports}
    return [" ".join(group) for group in sorted(groups) if group]


def excepted_imports() -> list[str]:
    """Those that the contract of the layers lets pass; `make lint` finds any other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return layers.get("ignore_imports", [])


def import_time(rounds: int = 5) -> tuple[float, str]:
    """Median seconds of the import that every call of Snakemake begins with, and what else it loads."""
    command = [sys.executable, "-c", IMPORT]
    answers = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "workflow")}
        ).stdout.split()
        for _ in range(rounds)
    ]
    return statistics.median(float(answer[0]) for answer in answers), " ".join(answers[0][1:]) or "none"


if __name__ == "__main__":
    main()
