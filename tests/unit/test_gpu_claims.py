"""Which GPUs a job sees and takes for itself, and how much of this computer jobs get together."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from anamnesis.core import devices
from anamnesis.core.computer import limits, total_memory_mib
from anamnesis.core.errors import UserError

LIBRARY = Path(__file__).parents[2] / "workflow"
CLAIM = textwrap.dedent("""\
    import logging, os, sys
    from pathlib import Path
    from anamnesis.core.devices import claimed
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    with claimed(int(sys.argv[1]), Path(sys.argv[2])):
        print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        sys.stdin.read()
""")


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in devices.SCHEDULED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def claim(tmp_path):
    """Starts a process that claims so many of some devices and keeps them until its input ends."""
    started = []

    def start(count: int, visible: str = "4,GPU-7", **environment: str) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", CLAIM, str(count), str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(LIBRARY), devices.VISIBLE: visible} | environment,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_jobs_share_no_device_and_a_killed_one_frees_its_own(claim):
    first, second = claim(1), claim(1)
    seen = {process.stdout.readline().strip() for process in (first, second)}
    assert seen == {"4", "GPU-7"}
    third = claim(1)
    assert "waiting for other jobs: 0 of 2 GPUs are free, 1 are needed" in third.stderr.readline()
    first.kill()  # no chance to give it back
    freed = third.stdout.readline().strip()
    assert freed in seen
    second.kill()
    said = third.communicate()[1]
    assert "waiting" not in said  # once is enough
    assert claim(2).stdout.readline().strip() == "4,GPU-7"


def test_jobs_within_an_allocation_share_no_device(claim):
    """salloc --gpus=4, and in it snakemake --resources gpu=4."""
    jobs = [claim(1, "0,1,2,3", SLURM_JOB_ID="77") for _ in range(4)]
    assert {process.stdout.readline().strip() for process in jobs} == {"0", "1", "2", "3"}
    elsewhere = claim(2, "0,1,2", SLURM_JOB_ID="78")  # whose 0 to 2 are others
    assert elsewhere.stdout.readline().strip() == "0,1"


def test_what_there_is_no_choice_in_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "2,3")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    for count in (2, 3, 0):  # just what the scheduler gave; more than that; no GPU at all
        with devices.claimed(count, tmp_path) as mine:
            assert (mine, os.environ[devices.VISIBLE]) == (["2", "3"], "2,3")
    assert not list(tmp_path.iterdir())


def test_afterwards_everything_is_visible_again(tmp_path, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "2,3")
    with devices.claimed(1, tmp_path):
        assert os.environ[devices.VISIBLE] == "2"
    assert os.environ[devices.VISIBLE] == "2,3"
    monkeypatch.delenv(devices.VISIBLE)
    monkeypatch.setattr(devices, "DEVICE_FILES", tmp_path)
    (tmp_path / "nvidia0").touch()
    with devices.claimed(1, tmp_path):
        assert os.environ[devices.VISIBLE] == "0"
    assert devices.VISIBLE not in os.environ


def test_other_users_may_open_the_locks_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "2,3")
    before = os.umask(0o077)
    try:
        with devices.claimed(2, tmp_path):
            modes = [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("*.lock")]
    finally:
        os.umask(before)
    assert modes == [0o666, 0o666]


def test_a_lock_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "2")
    (tmp_path / "anamnesis-gpu-local-2.lock").mkdir()
    message = r"^the GPU lock .*-2\.lock cannot be opened \(.+\): remove it, or set TMPDIR"
    with pytest.raises(UserError, match=message), devices.claimed(1, tmp_path):
        pass


# --- what there is


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
        ("3, 1", ["3", "1"]),
        ("GPU-8a1b,MIG-5c-0", ["GPU-8a1b", "MIG-5c-0"]),
    ],
)
def test_cuda_reads_the_visible_devices_up_to_the_first_that_is_none(visible, names, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, visible)
    assert devices.present() == names


@pytest.fixture
def computer(tmp_path, monkeypatch):
    """Folders to put device files and programs in, of a computer that says nothing of its GPUs yet."""
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    for name in ("dev", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(devices, "DEVICE_FILES", tmp_path / "dev")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    devices._named_by_driver.cache_clear()
    yield tmp_path
    devices._named_by_driver.cache_clear()


def driver(folder: Path, said: str) -> None:
    """An nvidia-smi that says so, once: asked again it would say nothing."""
    program = folder / "bin/nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{said}'\nrm -- \"$0\"\n", encoding="utf-8")
    program.chmod(0o755)


def test_devices_are_numbered_as_cuda_does_and_not_by_their_files(computer):
    for name in ("nvidia3", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (computer / "dev" / name).touch()
    assert devices.present() == ["0", "1"]


def test_without_device_files_the_driver_is_asked_once(computer):
    driver(computer, "GPU 0: A (UUID: GPU-1)\n  MIG 1g Device 0: (UUID: MIG-2)\nGPU 1: A (UUID: GPU-3)")
    assert devices.present() == devices.present() == ["0", "1"]


def test_a_driver_that_fails_has_no_devices(computer):
    driver(computer, "NVIDIA-SMI has failed because it could not talk to the NVIDIA driver")
    assert devices.present() == []


def test_jobs_are_limited_by_the_gpus_there_are_and_the_memory(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "4,5")
    assert limits() == {"gpu": 2, "mem_mb": total_memory_mib()}
    monkeypatch.setenv(devices.VISIBLE, "")
    assert limits().keys() == {"mem_mb"}


def test_the_memory_is_that_of_the_container_or_the_cluster_job(tmp_path):
    job = tmp_path / "groups/slurm/job_1/step_0"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("9:name=systemd:/\n0::/slurm/job_1/step_0\n", encoding="utf-8")
    whole = psutil.virtual_memory().total // 2**20
    assert total_memory_mib(tmp_path / "nothing", tmp_path / "groups") == whole
    (job / "memory.max").write_text("max\n", encoding="utf-8")
    assert total_memory_mib(tmp_path / "own", tmp_path / "groups") == whole
    (job.parent / "memory.max").write_text(f"{300 * 2**20}\n", encoding="utf-8")
    assert total_memory_mib(tmp_path / "own", tmp_path / "groups") == 300
