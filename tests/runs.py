"""Real Snakemake runs in a folder of their own: started, planned, killed and compared."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import psutil
import yaml

from anamnesis.core.integrity import ENDING, SET_ASIDE, TIMESTAMP, Note
from anamnesis.core.recovery import is_running

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = ("Snakefile", "config.yaml", "envs", "profiles", "workflow")
TRAINED = ("news_topic", "choose_last_of_5_spanish")
HELD_OUT = "capital_choice"  # multiple choice, with both forms
SWEPT = TRAINED[1]

CONFIG = {
    "model": {"name": "tiny", "sha256": None},
    "data": {"train_examples": 12, "validation_examples": 6, "test_examples": 4},
    "tuning": {"enabled": False},  # tests/workflow/test_tuned_start.py has it
    "suite": {"name": "small", "orders": [list(TRAINED)], "held_out": [HELD_OUT]},
    "vectors": {
        "tasks": [SWEPT],
        "shots": 2,
        "activation_prompts": 4,
        "effect_prompts": 4,
        "heads": 3,
        "never_answered": "average",
    },  # a random model answers nothing
    "sweep": {"shards": 2},
    "interventions": {"sets": [SWEPT], "layers": [0, 2], "examples": 3, "shots": 2},
    "training": {"seeds": [0], "epochs": 16, "batch_size": 4, "checkpoint_steps": 2},
    "guidance": {"heads": 3},
    "evaluation": {"shots": 2, "max_new_tokens": 3},
    "statistics": {"bootstrap_resamples": 50},
}
MODEL = Path("results/tiny")
SUITE = MODEL / "small"
OF_THE_RUN = ("seconds", "peak_memory_mib", "git_commit")  # in records, and no part of the result
TARGET_RULES = ("all", "analyses", "figures", "tables", "vectors")
TABLE = SUITE / "table1.md"
HEADS = MODEL / "vectors/heads.parquet"
METHODS = ("inclora", "inclora-ivg")


def stage(method: str, number: int) -> Path:
    """The folder of a stage of the only chain a method has."""
    return SUITE / method / "order1/seed0" / f"stage{number}"


STAGES = [stage(method, number) for method in METHODS for number in (1, 2)]
SAME_TABLES = [
    HEADS,
    MODEL / f"vectors/{SWEPT}/causal_effects.parquet",
    SUITE / "accuracy.parquet",
    SUITE / "measures.parquet",
    *(folder / f"{name}.parquet" for folder in STAGES for name in ("training", "evaluation")),
]
SAME_BYTES = [
    TABLE, SUITE / "table1.csv", *(folder / "adapter/adapter_model.safetensors" for folder in STAGES),
]  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """A folder in which the workflow of ``root`` is run with ``config``."""

    folder: Path
    config: dict
    root: Path = ROOT

    def command(self, *arguments: str | Path) -> list[str]:
        file, text = self.folder / "experiment.yaml", yaml.safe_dump(self.config)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        options = ["--snakefile", self.root / "Snakefile", "--directory", self.folder, "--configfile", file]
        return [sys.executable, "-m", "snakemake", *map(str, [*options, "--cores", "2", *arguments])]

    def run(
        self, *arguments: str | Path, cwd: Path | None = None, **options
    ) -> subprocess.CompletedProcess[str]:
        """The finished run; both of its streams are in ``stdout``."""
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
            **options,
        )

    def plan(self, *targets: str | Path) -> list[str]:
        """The jobs a run would do: "rule" or "rule wildcards", sorted; no rules that are only targets."""
        done = self.run("--dry-run", *targets)
        assert done.returncode == 0, done.stdout
        jobs = [job for job in announced(done.stdout).values() if job not in TARGET_RULES]
        assert jobs or "Nothing to be done" in done.stdout, done.stdout
        return sorted(jobs)

    def start(self, *arguments: str | Path, **options) -> subprocess.Popen:
        """The run in a process group of its own; what it says goes to ``run.log``."""
        with (self.folder / "run.log").open("a") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def copy(self, folder: Path) -> Experiment:
        """The same experiment with all its results, times of change included, in another folder."""
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def files(self) -> list[str]:
        """All results, without logs, run times and notes."""
        found = (path.relative_to(self.folder) for path in self.folder.glob("results/**/*") if path.is_file())
        kept = (path for path in found if path.parts[1] not in ("logs", "benchmarks"))
        return sorted(str(path) for path in kept if not path.name.endswith(ENDING))

    def with_config(self, changes: dict) -> Experiment:
        return replace(self, config=merged(self.config, changes))


def announced(said: str) -> dict[str, str]:
    """The jobs that Snakemake names, by their number: "rule" or "rule wildcards"."""
    jobs = {}
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", said, flags=re.MULTILINE):
        wildcards = re.search(r"^    wildcards: (.*)$", body, flags=re.MULTILINE)
        number = re.search(r"^    jobid: (\d+)$", body, flags=re.MULTILINE)
        if number:  # not there yet while the line is being written
            jobs[number[1]] = f"{rule} {wildcards[1]}" if wildcards else rule
    return jobs


def assert_same_results(run: Experiment, expected: Experiment) -> None:
    """Both folders hold the same files, with the same numbers to the last bit."""
    for file in SAME_TABLES:
        found, wanted = (pd.read_parquet(each.folder / file) for each in (run, expected))
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    for file in SAME_BYTES:
        assert (run.folder / file).read_bytes() == (expected.folder / file).read_bytes(), file
    assert run.files() == expected.files()


def differences(run: Experiment, expected: Experiment) -> list[str]:
    """The files of two finished runs that differ in more than the cost of their jobs."""
    found, wanted = set(run.files()), set(expected.files())
    same = {file for file in found & wanted if _same(run.folder / file, expected.folder / file)}
    return sorted((found | wanted) - same)


def _same(found: Path, wanted: Path) -> bool:
    """Without what differs from run to run; of the report without all numbers, which are in the tables."""
    if found.name == TIMESTAMP:
        return True
    if found.suffix == ".json" and "peak_memory_mib" in json.loads(wanted.read_text()):
        records = (json.loads(file.read_text()) for file in (found, wanted))
        found_facts, wanted_facts = (
            {key: value for key, value in record.items() if key not in OF_THE_RUN} for record in records
        )
        return found_facts == wanted_facts
    if found.suffix == ".html":
        texts = (re.sub(r".*git_commit.*\n|[\d.,]+", "", file.read_text()) for file in (found, wanted))
        return len(set(texts)) == 1
    return filecmp.cmp(found, wanted, shallow=False)


def remove_set_aside(run: Experiment) -> None:
    """Remove the damaged results that a run has renamed."""
    for path in list(run.folder.glob(f"results/**/*{SET_ASIDE}")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def rolled_back(finished: Experiment, folder: Path, done: int) -> Experiment:
    """A copy of a finished run as it was after its first ``done`` jobs."""
    run = finished.copy(folder)
    notes = [Note.load(file) for file in sorted(run.folder.rglob(f".*{ENDING}"))]
    notes.sort(
        key=lambda note: max(state[2] for states in note.written.values() for state in states.values())
    )
    for note in notes[done:]:
        for path in (run.folder / name for name in note.written):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        note.file.unlink()
    return run


def merged(config: dict, changes: dict) -> dict:
    """``config`` with the keys of ``changes`` on top; lists are replaced whole."""
    result = dict(config)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def copy_repository(folder: Path, source: Path = ROOT) -> Path:
    """What the workflow consists of, times of change included."""
    for name in REPOSITORY:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / name, folder / name, ignore=ignored, dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)
    return folder


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    """Look every few milliseconds; an error when the process ends first or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def all_end(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Whether the processes end within the time."""
    end = time.monotonic() + seconds
    while any(map(is_running, processes)):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def kill_all(process: subprocess.Popen) -> None:
    """``kill -9`` of Snakemake and of all its jobs at once."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
