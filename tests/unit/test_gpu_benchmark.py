"""The GPU benchmark on the CPU: the same code on tiny shapes, with few packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
NEEDED = ("torch", "transformers", "peft", "pandas")


def installed_with(packages: Iterable[str]) -> set[str]:
    """Names of the packages that pip installs for these, extras aside."""
    found, open_ = set(), set(packages)
    while open_:
        package = open_.pop()
        found.add(package)
        try:
            wanted = [Requirement(text) for text in requires(package) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        names = {
            canonicalize_name(r.name) for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})
        }
        open_ |= names - found
    return found


def others(packages: Iterable[str]) -> list[str]:
    """The importable modules that come with none of these packages."""
    kept = installed_with(packages) | {"anamnesis"}
    modules = packages_distributions().items()
    return [module for module, sources in modules if not kept & set(map(canonicalize_name, sources))]


def run(folder: Path, *options: str, packages: Iterable[str] = NEEDED) -> subprocess.CompletedProcess:
    """The benchmark in a Python that has these packages, what they need, and no more."""
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({others(packages)}))\n"
    (folder / "sitecustomize.py").write_text(hidden, encoding="utf-8")
    own = {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = ["bash", str(SCRIPT), *options]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=300)


def test_the_same_code_runs_on_a_cpu(tmp_path):
    done = run(tmp_path, "--device", "cpu", "--small", "--rounds", "1", "--output", str(tmp_path / "o.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert written["machine"]["device"] == "cpu"
    lines = {line["what"]: line for line in written["results"]}
    assert sum(line["passed"] is True for line in lines.values()) >= 10
    assert {what for what, line in lines.items() if "broke" in what or line["passed"] is False} == set()
    for part in (
        "engine - naive",
        "rank correlation",
        "matrix products",
        "prefill",
        "branches",
        "FlexAttention",
        "IVG",
    ):
        assert any(part in what for what in lines), part
    assert all(what in done.stdout for what in lines)


def test_without_a_gpu_it_says_so_and_is_no_failure(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "skipped")


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path):
    done = run(tmp_path, packages=("torch", "transformers"))
    assert (done.returncode, done.stdout) == (2, "")
    line = f"error: {sys.executable} lacks peft pandas: {sys.executable} -m pip install peft pandas, or name"
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_that_python_has_what_it_should_and_no_more():
    assert {"snakemake", "gguf", "matplotlib", "scipy", "pyarrow"} <= set(others(NEEDED))
    assert not {"numpy", "safetensors", "filelock", *NEEDED} & set(others(NEEDED))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu"], "--device is cpu, where a 7B model is out of reach: add --small"),
        (["--device", "tpu"], "--device is 'tpu': give cuda, cuda:<number> or cpu"),
        (["--output", "x.txt"], "--output is 'x.txt': give a file that ends in .json or .csv"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    done = run(tmp_path, *options)
    assert (done.returncode, done.stderr.strip()) == (2, f"error: {message}")
