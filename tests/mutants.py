"""Mutation testing: small faults are put into the modules that numbers come from, one at a time, and the unit
tests of the module must find each. ``make mutants`` runs it; ``mutants.toml`` explains what may survive.

mutmut wants sources in a folder ``src`` and leaves decorated functions alone. So it works on a copy in which
decorators are applied after the function.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutants"
BIN = Path(sys.executable).parent
# Module -> the tests of tests/unit that know it best. Few seconds: a surviving mutant runs all that reach it.
# mutmut sees what reaches it while a test runs: a fixture that does is made for each test, not once for all.
MODULES = {
    "stats/intervals": ["intervals.py"],
    "stats/forgetting": ["forgetting.py"],
    "stats/held_out": ["held_out.py"],
    "stats/chains": ["chains.py"],
    "training/divergence": ["divergence.py"],
    "training/objectives": ["objectives.py"],
    "training/guidance": ["guidance_controls.py", "guidance_share.py"],
    "vectors/effects": ["effects.py", "other_device.py::test_a_sweep_waits_for_the_device_once_a_batch"],
    "data/prompts": ["prompts.py", "shuffling.py"],
}
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/anamnesis/{module}.py"]
also_copy = ["config.yaml", "workflow"]
pytest_add_cli_args = [
    "-o", "pythonpath=src", "-p", "no:cacheprovider", "-p", "no:xdist",
    "--assert=plain", "--tb=no", # explaining a failure takes longer than most tests
]
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 4.0
timeout_constant = 5.0  # seconds; the times of tests leave fixtures out
"""
FOUND = ("killed", "timeout", "segfault")


def main(modules: list[str]) -> int:
    """Run the mutants of some modules (default: all) and print what survived and a table; 1 if something did
    that is not explained, or is explained and did not.
    """
    explained = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["survivor"]
    table, open_ends = [f"{'module':22} mutants  killed explained  survived"], []
    for module in modules or MODULES:
        copy = FOLDER / module.replace("/", "-")
        run(module, copy)
        ends = results(copy, module)
        alive = {name: change(copy, module, name) for name, end in ends.items() if end not in FOUND}
        expected = {entry["change"] for entry in explained if entry["module"] == module}
        survivors = [name for name, lines in alive.items() if not any(line in lines for line in expected)]
        counts = len(ends), len(ends) - len(alive), len(alive) - len(survivors), len(survivors)
        table.append(module.ljust(22) + " {:7} {:7} {:9} {:9}".format(*counts))
        print(table[-1], file=sys.stderr, flush=True)
        open_ends += [f"{name} ({ends[name]})\n{alive[name]}" for name in survivors]
        unmet = [line for line in expected if not any(line in lines for lines in alive.values())]
        open_ends += [f"{module}: explained in mutants.toml, but no survivor: {line}" for line in unmet]
    print("\n".join([*open_ends, *table]))
    return int(bool(open_ends))


def run(module: str, copy: Path) -> None:
    """Make the copy afresh, and every mutant of a module in it."""
    shutil.rmtree(copy, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__")
    for source, target in (("workflow", "src"), ("workflow", "workflow"), ("tests", "tests")):
        shutil.copytree(ROOT / source, copy / target, ignore=unwanted)
    shutil.copy2(ROOT / "config.yaml", copy)
    path = copy / "src" / "anamnesis" / f"{module}.py"
    path.write_text(decorated_afterwards(path.read_text()))
    tests = [f"tests/unit/test_{name}" for name in MODULES[module]]
    project = (ROOT / "pyproject.toml").read_text() + CONFIG.format(module=module, tests=json.dumps(tests))
    (copy / "pyproject.toml").write_text(project)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # would lead to the sources that are not mutated
    command = [BIN / "mutmut", "run", "--max-children", os.environ.get("MUTANTS_AT_ONCE", "2")]
    with open(copy / "mutmut.log", "w") as log:
        done = subprocess.run(command, cwd=copy, env=environment, stdout=log, stderr=log)
    if done.returncode:
        sys.exit(f"mutmut failed: see {log.name}")


def decorated_afterwards(source: str) -> str:
    """The same module with ``f = decorator(f)`` after a function instead of ``@decorator`` before it."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            applied = [f"{node.name} = {ast.unparse(d)}({node.name})" for d in reversed(node.decorator_list)]
            lines[node.end_lineno : node.end_lineno] = applied
            del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines) + "\n"


def results(copy: Path, module: str) -> dict[str, str]:
    """Mutant -> how it ended."""
    found = json.loads((copy / "mutants" / "src" / "anamnesis" / f"{module}.py.meta").read_text())
    return {name: status_by_exit_code[code] for name, code in found["exit_code_by_key"].items()}


def change(copy: Path, module: str, name: str) -> str:
    """The lines that a mutant changes, with - and +."""
    with contextlib.chdir(copy):
        return "\n".join(_changed(get_diff_for_mutant(name, path=f"src/anamnesis/{module}.py")))


def _changed(difference: str) -> Iterator[str]:
    for line in difference.splitlines():
        if line[:1] in "+-" and line[:3] not in ("+++", "---"):
            yield f"{line[0]} {line[1:].strip()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
