"""Disks that are full or read-only, for real: small ones in memory, which only root may mount."""

from __future__ import annotations

import os
import subprocess

import pytest

from runs import announced, differences, rolled_back, wait_until

pytestmark = pytest.mark.faults
DONE = 14  # jobs, before the disk is full


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(params=["results", "everything"])
def disk(request, undisturbed, tmp_path):
    """A run begun before, whose results (or whole folder) are on a disk of their own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place))
    if done.returncode:
        pytest.skip(f"no disk can be mounted here (needs root): {done.stderr.strip()}")
    try:
        if request.param == "everything":
            run = rolled_back(undisturbed, place / "run", DONE)
        else:
            run = rolled_back(undisturbed, tmp_path / "run", DONE)
            (run.folder / "results").rename(tmp_path / "moved")
            subprocess.run(["cp", "-a", str(tmp_path / "moved"), str(place / "results")], check=True)
            (run.folder / "results").symlink_to(place / "results")
        yield run, place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def resize(place, free: int | None) -> None:
    """Leave ``free`` KiB; None for enough."""
    space = os.statvfs(place)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize // 1024
    size = "1g" if free is None else f"{used + free}k"
    assert mount("-o", f"remount,size={size}", str(place)).returncode == 0


def same_so_far(run, undisturbed) -> bool:
    """Whether everything that is there is as in the undisturbed run."""
    found = set(run.files())
    return not [file for file in differences(run, undisturbed) if file in found]


@pytest.mark.parametrize("free", [16, 400])
def test_full(disk, undisturbed, tmp_path, free):
    """The disk fills up while the first jobs run."""
    run, place = disk
    log = tmp_path / "said"
    (run.folder / "run.log").symlink_to(log)  # somewhere else: a full disk takes no output either
    process = run.start()
    wait_until(lambda: announced(log.read_text()), process)
    resize(place, free)
    assert process.wait(timeout=900) != 0
    said = log.read_text()
    assert "Traceback" not in said
    assert "no space left" in said.lower()
    assert same_so_far(run, undisturbed)
    resize(place, None)
    done = run.run()
    assert done.returncode == 0, done.stdout
    assert differences(run, undisturbed) == []


def test_read_only(disk, undisturbed):
    run, place = disk
    run.command()  # writes the configuration
    assert mount("-o", "remount,ro", str(place)).returncode == 0
    before = run.files()
    done = run.run()
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "nothing can be written there" in done.stdout
    assert run.files() == before
    assert mount("-o", "remount,rw", str(place)).returncode == 0
    done = run.run()
    assert done.returncode == 0, done.stdout
    assert differences(run, undisturbed) == []
