"""Run the tests of the library with the oldest, or the newest, packages that pyproject.toml allows: ``make
versions ARGS=oldest``. The environment is made in a temporary folder; torch with CUDA takes some 6 GB there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("hypothesis", "pytest", "setuptools")
TESTS = """
adapters artifacts builtin_data config config_sections data_sources data_user_files effects encoding engine
further_models generation guidance heads intervals methods metrics models optimised_vectors prompts
run_command scoring study tokenizers training vectors wheel
"""


def wanted(which: str) -> list[str]:
    """What pip is asked for: all ranges of the library and its workflow or, of each, the lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    ranges = [*project["dependencies"], *extras["report"], *extras["workflow"], *extras["slurm"]]
    ranges = [line for line in ranges if not line.startswith("anamnesis")]
    if which == "oldest":
        ranges = [line.partition(",")[0].replace(">=", "==") for line in ranges]
    return [*ranges, *(line for line in extras["test"] if line.startswith(TOOLS))]


def main() -> int:
    if sys.argv[1:] not in (["oldest"], ["newest"]):
        print("usage: make versions ARGS=oldest, or ARGS=newest", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted(sys.argv[1])], check=True)
        subprocess.run([python, "-m", "pip", "list"], check=True)
        files = [f"tests/unit/test_{name}.py" for name in TESTS.split()]
        return subprocess.run([python, "-m", "pytest", "-q", *files], cwd=ROOT).returncode


if __name__ == "__main__":
    raise SystemExit(main())
