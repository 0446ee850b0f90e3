"""Tables and figures of an experiment from its accuracies alone, as a reader of the repository makes them."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd

from runs import ROOT, TARGET_RULES, announced

COMMITTED = ROOT / "workflow/reference/methods"
MADE = "results/methods-tables/smollm2-135m-instruct/methods"


def test_the_committed_tables_follow_from_the_committed_accuracies(tmp_path):
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")  # where the file's relative path leads
    files = ["workflow/experiments/methods.yaml", "workflow/reference/methods/pool.yaml"]
    command = ["-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "2"]
    command += ["--configfile", *(ROOT / file for file in files), "--", "tables"]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    jobs = {job for job in announced(done.stdout).values() if job not in TARGET_RULES}
    assert all(job == "tabulate_results" or job.startswith("plot_") for job in jobs), jobs

    made = tmp_path / MADE
    for table in ("table1.csv", "comparisons.csv"):
        found, wanted = (pd.read_csv(folder / table) for folder in (made, COMMITTED))
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-9)
    assert (made / "table1.md").read_text() == (COMMITTED / "table1.md").read_text()
    for figure in COMMITTED.glob("*.png"):
        assert (made / "figures" / figure.name).stat().st_size > 10_000
