"""Every Snakemake command of the documentation can be planned as it is printed."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from doc_blocks import ROOT, commands, write_tutorial

PUBLISHED = "<folder>"  # commands that need published sets, which are not here
LINES = [line for line in commands("snakemake") if PUBLISHED not in line]


@pytest.fixture
def folder(tmp_path, snapshot):
    """Where a reader gives the commands: the repository, with the files of the tutorial."""
    for name in ("workflow", "profiles", "config.yaml", "Snakefile", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "else").mkdir()
    write_tutorial(tmp_path, snapshot)
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_a_command_can_be_planned(line, folder):
    words = shlex.split(line.replace("/somewhere/else", str(folder / "else")))[1:]
    words = ["--dry-run", "--quiet", "rules", *words] if "-n" not in words else words
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
