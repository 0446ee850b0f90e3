"""Tables and figures of an experiment from its accuracies alone, as a reader of the repository makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from runs import ROOT, TARGET_RULES, announced

COMMITTED = ROOT / "workflow/reference/methods"
NOT_RUN = "ewc-0"  # listed by the experiment since its chains were run
MADE = "results/methods-tables/smollm2-135m-instruct/methods"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    files = ["workflow/experiments/methods.yaml", "workflow/reference/methods/pool.yaml"]
    command = ["-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "2"]
    command += ["--configfile", *(ROOT / file for file in files), "--", *arguments]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def test_the_committed_tables_follow_from_the_committed_accuracies(tmp_path):
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")  # where the file's relative path leads
    done = run(tmp_path, "tables")
    assert done.returncode == 0, done.stdout
    jobs = {job for job in announced(done.stdout).values() if job not in TARGET_RULES}
    assert all(job == "tabulate_results" or job.startswith("plot_") for job in jobs), jobs

    for target in ("all", "figures"):
        assert "Nothing to be done" in run(tmp_path, target).stdout
    assert "training.seeds = []: analyses look into chains of this run" in run(tmp_path, "analyses").stdout
    made = tmp_path / MADE
    for table in ("table1.csv", "comparisons.csv", "held_out.csv"):
        found, wanted = (pd.read_csv(folder / table) for folder in (made, COMMITTED))
        assert NOT_RUN not in set(found["method"])  # pairs without chains have no rows
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-9)
    text = (made / "table1.md").read_text()
    assert f"| {NOT_RUN} |" not in text
    assert text == (COMMITTED / "table1.md").read_text()
    for figure in COMMITTED.glob("*.png"):
        assert (made / "figures" / figure.name).stat().st_size > 10_000
