"""The workflow on a real Slurm with two nodes: it ends with the numbers of a run without a cluster, whatever
happens to nodes, jobs and Snakemake on the way.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import psutil
from slurm import URGENT, WORK, Slurm, wait_for

from anamnesis.training.checkpoints import COMPLETE
from runs import ROOT, Experiment, assert_same_results, stage, wait_until

SECONDS = 1500  # the longest a run may take: without a limit, a plugin that hangs would hang the tests
METHOD = "inclora-ivg"  # the chain that is disturbed
TRAINED = stage(METHOD, 2) / "adapter"
OPTIONS = ["--profile", ROOT / "profiles/slurm"]


@dataclass(frozen=True)
class OnSlurm:
    """An experiment whose jobs run on Slurm."""

    experiment: Experiment
    slurm: Slurm

    def start(self, *arguments):
        environment = {**self.slurm.environment, "SBATCH_PARTITION": WORK, "SBATCH_ACCOUNT": "none"}
        return self.experiment.start(*OPTIONS, *arguments, env=environment)

    def finish(self, process) -> str:
        """What the run has said, after its end."""
        process.wait(timeout=SECONDS)
        said = (self.experiment.folder / "run.log").read_text()
        assert process.returncode == 0, said
        return said

    def training_job(self, process, number: int) -> str:
        """The Slurm job that trains a stage of METHOD, as soon as the stage has a checkpoint. It is held
        there until it gets a signal: on a fast machine it would be over before anything happens to it.
        """
        found: list[str] = []

        def submitted() -> bool:
            found[:] = self.slurm.jobs(rule=f"train_stage_wildcards_{METHOD}_1_0_{number}")
            return bool(found)

        wait_until(submitted, process, SECONDS)
        checkpoints = self.experiment.folder / stage(METHOD, number) / ".checkpoints"
        wait_until(lambda: any(checkpoints.glob(f"*/checkpoint-*/{COMPLETE}")), process, SECONDS)
        for script in self.training_scripts():
            script.suspend()
        return found[0]

    def training_scripts(self) -> list[psutil.Process]:
        """The processes that train."""
        own = f"{self.experiment.folder}/.snakemake/scripts/"
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(own in word and "train_stage" in word for word in process.info["cmdline"] or ())
        ]

    def training_log(self, number: int) -> str:
        """Of the last attempt."""
        name = f"{METHOD}-order1-seed0-stage{number}.log"
        return (self.experiment.folder / "results/logs/train_stage" / name).read_text()

    def said_by(self, job: str) -> str:
        """What a Slurm job wrote that failed."""
        (file,) = (self.experiment.folder / ".snakemake/slurm_logs").rglob(f"{job}.log")
        return file.read_text()


def untrained(whole: Experiment, folder) -> Experiment:
    """A copy of the finished experiment in which the stages of METHOD are to be trained again."""
    run = whole.copy(folder)
    for number in (1, 2):
        place = run.folder / stage(METHOD, number)
        shutil.rmtree(place / "adapter")
        for name in ("training.parquet", "training.json"):
            (place / name).unlink()
    return run


def test_whole_run_equals_a_local_one(whole, fresh, slurm):
    run = OnSlurm(fresh, slurm)
    said = run.finish(run.start())
    assert_same_results(fresh, whole)
    assert "Nothing to be done" in fresh.run().stdout
    jobs = [line for line in said.splitlines() if "submitted with SLURM jobid" in line]
    rules = list(fresh.folder.glob("results/logs/**/*.log"))
    # 3 tasks share a Slurm job, so do 2 rules about vectors, and the table with 5 figures and the report
    assert len(jobs) == len(rules) - 2 - 1 - 6


def test_cancelled_job_and_crashed_node(whole, tmp_path, slurm):
    run = OnSlurm(untrained(whole, tmp_path / "run"), slurm)
    process = run.start(TRAINED, "--set-resources=train_stage:gpu=1")
    job = run.training_job(process, 1)
    slurm.ask("scancel", job)
    assert "TresPerJob=gres:gpu:1" in slurm.ask("scontrol", "show", "job", job)
    slurm.crash(slurm.node_of(run.training_job(process, 2)))
    run.finish(process)
    assert_same_results(run.experiment, whole)
    assert all("continuing from checkpoint-" in run.training_log(number) for number in (1, 2))


def test_preempted_job_and_killed_snakemake(whole, tmp_path, slurm):
    run = OnSlurm(untrained(whole, tmp_path / "run"), slurm)
    process = run.start(TRAINED, "--set-resources=train_stage:gres=gpu:1")
    job = run.training_job(process, 1)
    everything = ("--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    slurm.ask("sbatch", f"--partition={URGENT}", *everything)
    assert "TresPerNode=gres:gpu:1" in slurm.ask("scontrol", "show", "job", job)
    orphan = run.training_job(process, 2)
    assert "training was told to end (SIGTERM)" in run.said_by(job)
    assert "continuing from checkpoint-" in run.training_log(1)

    process.kill()
    process.wait()
    process = run.start(TRAINED)
    for script in run.training_scripts():
        script.resume()
    wait_for(lambda: orphan not in slurm.jobs(), "the end of the job that nobody waits for")
    run.finish(process)
    assert_same_results(run.experiment, whole)
