"""Options of Snakemake that people use, on an experiment of which nothing is made yet."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runs import ROOT

# stands for conda, whose environments have the Python of the tests
CONDA = """#!/bin/sh
while [ $# -gt 1 ] && [ "$1" != --prefix ]; do words="$words $1"; shift; done
case "$words $1" in
  " info"*) echo '{info}' ;;
  " config"*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  " env create"*) mkdir -p "$2/bin" "$2/conda-meta" && cp "$(dirname "$0")/python" "$2/bin" ;;
  *) echo "conda 24.9.1" ;;
esac
"""
PYTHON = f"""#!/bin/sh
echo "$0" >> "$USED"
exec {sys.executable} "$@"
"""


@pytest.fixture
def conda(fresh):
    """An environment whose PATH has such a program first; the file ``USED`` lists interpreters that ran."""
    home = fresh.folder / "conda"
    info = {"conda_version": "24.9.1", "platform": "linux-64", "conda_prefix": str(home)}
    (home / "bin").mkdir(parents=True)
    texts = {"conda": CONDA.format(info=json.dumps(info)), "python": PYTHON}
    for name, text in (texts | {"activate": 'export PATH="$1/bin:$PATH"\n'}).items():
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "USED": str(home / "used")}


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


def test_jobs_run_in_the_environment_that_conda_makes(fresh, conda):
    command = ["results/tasks/antonym.parquet", "--sdm", "conda"]
    done = fresh.run(*command, env=conda)
    assert done.returncode == 0, done.stdout
    used = Path(conda["USED"]).read_text().splitlines()
    assert any(".snakemake/conda/" in interpreter for interpreter in used)
    assert "Nothing to be done" in fresh.run(*command, "--dry-run", env=conda).stdout


def test_the_workflow_can_be_written_as_a_container(fresh, conda):
    """It asks conda for its version alone: the environment is made when the container is built."""
    done = fresh.run("--containerize", env=conda)
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
