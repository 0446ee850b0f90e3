"""Files cut short, as after a power cut: what was damaged is said in one line, and the numbers come back."""

from __future__ import annotations

import base64
import re

import pytest

from runs import (
    HEADS,
    HELD_OUT,
    MODEL,
    SUITE,
    SWEPT,
    differences,
    kill_all,
    remove_set_aside,
    rolled_back,
    stage,
    wait_until,
)

pytestmark = pytest.mark.faults
STAGE = stage("inclora-ivg", 2)
SNAPSHOT = "results/models/tiny"
RESULTS = {
    "snapshot": [f"{SNAPSHOT}/model.safetensors"],
    "snapshot's tokenizer, record": [f"{SNAPSHOT}/tokenizer.json", f"{SNAPSHOT}.json"],
    "task, vectors": [
        f"results/tasks/{HELD_OUT}.parquet",
        MODEL / f"vectors/{SWEPT}/prompts.parquet",
        MODEL / f"vectors/{SWEPT}/mean_activations.safetensors",
        HEADS,
    ],
    "stage": [
        STAGE / "adapter/adapter_model.safetensors",
        STAGE / "training.parquet",
        STAGE / "training.json",
        STAGE / "evaluation.parquet",
    ],
    "tables, figures, report": [
        SUITE / "table1.csv",
        SUITE / "table1.md",
        SUITE / "figures/summary.png",
        SUITE / "figures/head_effects.pdf",
        SUITE / "figures/interventions.csv",
        SUITE / "report.html",
    ],
}


def cut(path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def finish(run, undisturbed) -> str:
    """What the same command says, after which (and the remedies named) all is as in the undisturbed run."""
    done = run.run()
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    for path in damaged(done.stdout):
        again = run.run(path)
        assert again.returncode == 0, again.stdout
    assert "Nothing to be done" in run.run().stdout
    remove_set_aside(run)
    assert differences(run, undisturbed) == []
    return done.stdout


def damaged(said: str) -> list[str]:
    return re.findall(r"^(\S+) is not what was written", said, flags=re.MULTILINE)


@pytest.mark.parametrize("share", [0, 0.5], ids=["emptied", "halved"])
@pytest.mark.parametrize("files", RESULTS.values(), ids=RESULTS.keys())
def test_results(run, undisturbed, files, share):
    for file in files:
        cut(run.folder / file, share)
    found = damaged(finish(run, undisturbed))
    assert len(found) == len(files)
    assert all(any(str(file).startswith(path) for path in found) for file in files)


def test_logs_and_run_times(run, undisturbed):
    for name in ("logs", "benchmarks"):
        for file in (run.folder / "results" / name).rglob("*.*"):
            cut(file, 0.5)
    assert "Nothing to be done" in finish(run, undisturbed)


def test_notes(run, undisturbed):
    for place in (STAGE, SUITE / "figures"):
        for file in (run.folder / place).glob(".*.made.json"):
            cut(file, 0.5)
    assert str(STAGE / "adapter") in damaged(finish(run, undisturbed))


def test_record_of_snakemake(run, undisturbed):
    name = base64.urlsafe_b64encode(str(SUITE / "measures.parquet").encode()).decode()
    cut(run.folder / ".snakemake/metadata" / name, 0.5)
    assert f"Snakemake's record of {SUITE}/measures.parquet is damaged" in finish(run, undisturbed)


def test_everything_snakemake_keeps(run, undisturbed):
    for file in (run.folder / ".snakemake").rglob("*"):
        if file.is_file():
            cut(file, 0)
    finish(run, undisturbed)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "steps.json", "SHA256SUMS"])
def test_checkpoint(undisturbed, tmp_path, name):
    run = rolled_back(undisturbed, tmp_path / "run", 10)
    process = run.start()
    wait_until(lambda: len(list(run.folder.rglob("checkpoint-*/complete"))) > 1, process)
    kill_all(process)
    ended = [file.parent for file in run.folder.rglob("checkpoint-*/complete")]
    newest = max(ended, key=lambda path: int(path.name.split("-")[1]))
    cut(newest / name, 0.5)
    said = finish(run, undisturbed)
    assert f"{newest.name} is not continued from: " in said
