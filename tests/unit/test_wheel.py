"""Outside of a checkout: the source distribution has all, and the wheel made from it runs the workflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from runs import ROOT

OF_THIS_COMPUTER = shutil.ignore_patterns(
    "results", ".git", ".venv", ".snakemake", "*_cache", "__pycache__", "*.egg-info", "build", "dist", "site",
    ".hypothesis", "mutants", ".coverage*",
)  # fmt: skip


def build(kind: str, source: Path, target: Path) -> Path:
    """As pip does it, without fetching setuptools anew."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    (file,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The source distribution of a copy of this checkout: (the copy, its files)."""
    copy, folder = tmp_path_factory.mktemp("checkout") / "anamnesis", tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, copy, ignore=OF_THIS_COMPUTER)
    with tarfile.open(build("sdist", copy, folder)) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    return copy, source


@pytest.fixture(scope="module")
def installed(unpacked, tmp_path_factory):
    """A function that calls a command of the installed wheel in a folder."""
    wheel = build("wheel", unpacked[1], tmp_path_factory.mktemp("wheel"))
    site = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        wheel,
    ]
    subprocess.run(pip, check=True, capture_output=True)

    def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
        surrounding = {**os.environ, "PYTHONPATH": str(site)}
        command = [site / "bin" / "anamnesis", *arguments]
        return subprocess.run(command, cwd=folder, env=surrounding, capture_output=True, text=True)

    call.site = site
    return call


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_source_distribution_has_all_that_the_tests_and_pages_need(unpacked):
    copy, source = unpacked
    assert files_of(copy) - files_of(source) == set()
    assert os.access(source / ".ci" / "run", os.X_OK)


def test_the_wheel_has_the_workflow_and_no_tests(installed):
    repository = installed.site / "anamnesis" / "repository"
    for folder in ("envs", "workflow"):
        ours = {name for name in files_of(ROOT / folder) if name.endswith((".smk", ".yaml", ".csv", ".rst"))}
        ours = {name for name in ours if not name.startswith("anamnesis")}
        assert ours - files_of(repository / folder) == set()
    assert (repository / "profiles" / "default" / "config.yaml").is_file()
    tops = {path.name for path in installed.site.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"anamnesis", "snakemake_logger_plugin_anamnesis", "bin"}
    assert (installed.site / "anamnesis" / "py.typed").is_file()


def test_commands_of_the_wheel_work_outside_a_checkout(installed, tmp_path):
    done = installed(tmp_path, "--version")
    assert done.stdout.endswith(f", with the workflow in {installed.site}/anamnesis/repository\n")
    assert installed(tmp_path, "check", "smoke").returncode == 0
    done = installed(tmp_path, "check", "nowhere.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    done = installed(tmp_path, "write_config")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_workflow_of_the_wheel_is_planned_outside_a_checkout(installed, tmp_path):
    done = installed(tmp_path, "run", "smoke", "--profile", "slurm", "--executor", "local", "-n")
    assert done.returncode == 0, done.stderr
    assert "train_stage" in done.stdout
    assert not (tmp_path / "results").exists()


def test_a_job_of_the_wheel_runs_outside_a_checkout(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"data": {"train_examples": 10, "test_examples": 5}}))
    done = installed(tmp_path, "run", "mine.yaml", "results/tasks/plural.parquet", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/tasks/plural.parquet").is_file()
    assert "prepare_task plural" in done.stderr  # the lines of our logger
