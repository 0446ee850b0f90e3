"""Options of Snakemake that people use, on an experiment of which nothing is made yet."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from runs import ROOT

INFO = {"conda_version": "24.9.1", "platform": "linux-64", "conda_prefix": "/opt", "root_prefix": "/opt"}
CONDA = f"""#!/bin/sh
case "$1" in
  info) echo '{json.dumps(INFO)}' ;;
  config) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  *) echo "conda 24.9.1" ;;
esac
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--summary"], "results/tiny/small/report.html"),
        (["--list-changes", "params"], ""),
        (["--rulegraph"], "digraph snakemake_dag"),
        (["--dag"], "digraph snakemake_dag"),
        (["--list-target-rules"], "analyses"),
        (["--delete-all-output", "--dry-run"], ""),
        (["--forcerun", "rank_heads", "--dry-run"], "rule rank_heads:"),
        (["--touch", "results/tasks/antonym.parquet"], ""),
        (["--config", "experiment=own", "--dry-run"], "results/tiny/small/experiments/own/report.html"),
        (["--jobs", "3", "--dry-run"], "rule write_report:"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_option_of_snakemake_does_what_it_says(fresh, options, expected):
    done = fresh.run(*options)
    assert done.returncode == 0, done.stdout
    assert expected in done.stdout
    assert "Traceback" not in done.stdout


def test_until_and_omit_from_cut_the_plan(fresh):
    until, without = fresh.plan("--until", "rank_heads"), fresh.plan("--omit-from", "train_stage")
    assert "rank_heads" in until
    assert not [job for job in until if job.startswith(("build_vectors", "train_stage"))]
    assert "build_vectors" in without
    assert not [job for job in without if job.startswith(("train_stage", "tabulate_results"))]


def test_the_workflow_can_be_written_as_a_container(fresh):
    """It asks conda for its version alone: the environment is made when the container is built."""
    conda = fresh.folder / "bin" / "conda"
    conda.parent.mkdir()
    conda.write_text(CONDA)
    conda.chmod(0o755)
    path = os.pathsep.join([str(conda.parent), os.environ["PATH"]])
    done = fresh.run("--containerize", env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout
    assert "RUN conda env create" in done.stdout
    assert done.stdout.count("/environment.yaml\n") == 1  # one environment for all rules


def test_lint_has_nothing_to_say(fresh):
    done = fresh.run("--lint", cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "Congratulations" in done.stdout


def test_the_catalogue_draws_the_rules_in_the_folder_of_the_case(tmp_path):
    """From the Snakefile where tools look for it, which has the same default target."""
    case = shutil.copytree(ROOT / ".test", tmp_path / "case")
    options = ["--snakefile", ROOT / "workflow" / "Snakefile", "--directory", case, "--cores", "1"]
    command = [sys.executable, "-m", "snakemake", *options, "--forceall", "--rulegraph"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "write_report" in done.stdout
