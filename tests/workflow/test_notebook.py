"""The notebook of the documentation runs on the results of a small experiment, from first to last cell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from runs import ROOT

NOTEBOOK = ROOT / "docs/how-to/results.ipynb"


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_the_notebook_runs(whole, tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    (tmp_path / "results").symlink_to(whole.folder / "results")
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=300", "-q", NOTEBOOK.name]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
