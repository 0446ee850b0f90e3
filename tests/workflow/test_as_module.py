"""Within another workflow: as a module, included, or from a git host. It plans and runs as by itself."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from runs import MODEL, ROOT, SWEPT, Experiment, announced, copy_repository, merged

MODULE = f"""
configfile: "{ROOT}/config.yaml"

module anamnesis:
    snakefile: "{ROOT}/Snakefile"
    config: config
"""
OUTER = {
    "module": f"{MODULE}\nuse rule * from anamnesis\n",
    "module with the keys that differ": MODULE.split("\n\n", 1)[1] + "\nuse rule * from anamnesis\n",
    "module with names of its own": f"{MODULE}\nuse rule * from anamnesis as own_*\n",
    "included": f'include: "{ROOT}/Snakefile"\n',
}
TWO = f"""
from copy import deepcopy

configfile: "{ROOT}/config.yaml"

OTHER = deepcopy(config)
OTHER["training"]["methods"] = ["inclora"]
OTHER["experiment"] = "plain"

module first:
    snakefile: "{ROOT}/Snakefile"
    config: config
    prefix: "kept"

module second:
    snakefile: "{ROOT}/Snakefile"
    config: OTHER

use rule * from first as first_*
use rule * from second as second_*

use rule train_stage from second as second_train_stage with:
    threads: 2

rule both:
    default_target: True
    input: rules.first_all.input, rules.second_all.input
"""
# what Snakedeploy writes into workflow/Snakefile
DEPLOYED = """
configfile: "config/config.yaml"

module anamnesis:
    snakefile: github("owner/anamnesis", path="workflow/Snakefile", tag="v1")
    config: config

use rule * from anamnesis
"""
DATA = "mine.csv"
MEAN = MODEL / f"vectors/{SWEPT}/mean_activations.safetensors"


def within(experiment: Experiment, text: str) -> Experiment:
    """The same experiment by way of another Snakefile."""
    outer = experiment.folder / "outer"
    outer.mkdir(exist_ok=True)
    (outer / "Snakefile").write_text(text)
    return replace(experiment, root=outer)


def planned(experiment: Experiment, *arguments) -> tuple[list[str], set[str]]:
    """The jobs without a prefix of their names, and all outputs."""
    done = experiment.run("--dry-run", *arguments)
    assert done.returncode == 0, done.stdout
    outputs = re.findall(r"^    output: (.*)$", done.stdout, flags=re.MULTILINE)
    jobs = [job.removeprefix("own_") for job in announced(done.stdout).values()]
    return sorted(jobs), {path for line in outputs for path in line.split(", ")}


@pytest.mark.parametrize("way", OUTER)
def test_plan_is_that_of_the_workflow_itself(fresh, way):
    expected = planned(fresh, "all")
    assert len(expected[0]) > 25
    target = "own_all" if "names" in way else "all"
    assert planned(within(fresh, OUTER[way]), target) == expected


def test_including_workflow_keeps_what_it_sets(fresh):
    """The default configuration of the included one goes below, not on top."""
    outer = within(fresh, f'config["experiment"] = "set_outside"\ninclude: "{ROOT}/Snakefile"\n')
    assert "results/tiny/small/experiments/set_outside/report.html" in planned(outer, "all")[1]


def test_two_experiments_of_one_workflow(fresh):
    """A prefix moves results and not the user's files; the lock of the folder is this process's own."""
    rows = ["input,target", *(f"word {k},{'yes' if k % 2 else 'no'}" for k in range(60))]
    (fresh.folder / DATA).write_text("\n".join(rows))
    held_out = {
        "suite": {"held_out": ["own_set"]},
        "data": {"tasks": {"own_set": {"path": DATA, "instruction": "Odd or even?"}}},
    }
    run = within(replace(fresh, config=merged(fresh.config, held_out)), TWO)
    jobs, outputs = planned(run)
    assert sum("first_train_stage" in job for job in jobs) == 4
    assert sum("second_train_stage" in job for job in jobs) == 2
    own = {"kept/results/tiny/small/report.html", "results/tiny/small/experiments/plain/report.html"}
    assert own <= outputs
    assert {path.split("/")[0] for path in outputs} == {"kept", "results"}
    assert "kept/results/tasks/own_set.parquet" in outputs
    done = run.run("kept/results/tasks/own_set.parquet", "results/tasks/own_set.parquet")
    assert done.returncode == 0, done.stdout
    for part in ("kept/results", "results"):
        assert (run.folder / part / "tasks" / "own_set.parquet").exists()


def test_what_a_module_made_is_up_to_date_for_the_workflow_itself(fresh, tmp_path):
    done = within(fresh, OUTER["module with names of its own"]).run(MEAN, cwd=tmp_path.parent)
    assert done.returncode == 0, done.stdout
    assert fresh.plan(MEAN) == []
    assert (fresh.folder / MEAN).exists()


@pytest.fixture
def hosted(tmp_path_factory, monkeypatch):
    """This workflow as the tag v1 of a repository that git finds in place of one on a host; its commit."""
    host = tmp_path_factory.mktemp("host")
    repository = copy_repository(host / "owner" / "anamnesis")
    shutil.copytree(ROOT / "config", repository / "config")
    git = ["git", "-C", repository, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{host}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def deploy(experiment: Experiment, text: str = DEPLOYED) -> Experiment:
    """The same experiment in a folder that has what Snakedeploy writes."""
    workflow = experiment.folder / "workflow"
    for folder in (workflow, experiment.folder / "config"):
        folder.mkdir()
    (workflow / "Snakefile").write_text(text)
    shutil.copy(ROOT / "config" / "config.yaml", experiment.folder / "config")
    return replace(experiment, root=workflow)


def test_deployed_from_a_git_host_it_plans_and_runs_the_same(fresh, hosted):
    expected = planned(fresh)
    run = deploy(fresh)
    assert planned(run) == expected
    done = run.run("results/tasks/antonym.parquet")
    assert done.returncode == 0, done.stdout
    record = json.loads((run.folder / "results/tasks/antonym.json").read_text())
    assert record["git_commit"] == hosted
    assert fresh.plan("results/tasks/antonym.parquet") == []


@pytest.mark.skipif(not shutil.which("snakedeploy"), reason="Snakedeploy is not installed")
def test_snakedeploy_writes_what_plans_the_same(fresh, hosted):
    expected = planned(fresh)
    address = "https://github.com/owner/anamnesis"
    command = ["snakedeploy", "deploy-workflow", address, fresh.folder, "--tag", "v1"]
    subprocess.run(command, check=True, capture_output=True)
    assert (fresh.folder / "config" / "README.md").exists()
    assert planned(replace(fresh, root=fresh.folder / "workflow")) == expected


def test_the_file_at_the_top_cannot_be_read_from_a_git_host(fresh, hosted):
    done = deploy(fresh, DEPLOYED.replace("workflow/Snakefile", "Snakefile")).run("--dry-run")
    assert done.returncode == 1
    assert 'path="workflow/Snakefile"' in done.stdout


def test_results_in_a_storage_are_refused_in_one_line(fresh):
    storage = 'workflow.storage_settings.default_storage_provider = "fs"\n'
    done = within(fresh, f'{storage}include: "{ROOT}/Snakefile"\n').run("--dry-run", "all")
    assert done.returncode == 1
    assert "--default-storage-provider fs: results have to lie on a file system" in done.stdout
