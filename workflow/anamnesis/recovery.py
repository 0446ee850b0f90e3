"""What a run that was killed leaves behind, and how the next one gets rid of it: locks, half-written files,
orphaned jobs.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import psutil

# environment variable: number of the Snakemake process a job belongs to, and where that number is valid
SCHEDULER = "ANAMNESIS_SCHEDULER"
SECONDS_BETWEEN_LOOKS = 0.5
_held: list[IO] = []  # open as long as this process lives


def release_stale_locks(folder: Path) -> bool:
    """Remove Snakemake's locks in ``folder`` (.snakemake) when the run that made them is dead; True if there
    were any.

    Snakemake's locks are plain files, which stay when it is killed. So every run also holds a shared lock of
    the operating system, which ends with the process however that ends: who gets it alone knows that no other
    run is alive. Where the file system has no such locks, nothing is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "alive").open("a")
        stale = _locks_of_the_dead(handle, folder / "locks")
        for file in stale:
            file.unlink(missing_ok=True)
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:
        return False
    _held.append(handle)
    return bool(stale)


def _locks_of_the_dead(handle: IO, folder: Path) -> list[Path]:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another run is alive: its locks count
        return []
    return list(folder.glob("*.lock"))


def remove_leftovers(outputs: Iterable[str | Path]) -> None:
    """Delete what ``artifacts.atomic_path`` and ``atomic_directory`` had begun for ``outputs`` in a process
    that was killed.
    """
    for path in map(Path, outputs):
        for ending in ("part", "old"):
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.{ending}"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def announce_scheduler() -> None:
    """Tell the jobs started from now on that this process is their Snakemake."""
    os.environ[SCHEDULER] = f"{os.getpid()} {_process_space()}"


def end_with_scheduler() -> None:
    """Let this process end as soon as the Snakemake process that started it has.

    Otherwise a job would go on alone after ``kill -9`` of Snakemake, and write to the same files as the job
    that the next run starts in its place. Does nothing for a script started by hand, or in a container that
    numbers processes anew.
    """
    number, _, space = os.environ.get(SCHEDULER, "").partition(" ")
    if not number or space != _process_space():
        return
    scheduler = next((p for p in psutil.Process().parents() if str(p.pid) == number), None)
    if scheduler is None:  # it was killed while this process started
        os._exit(1)
    threading.Thread(target=_wait_and_end, args=(scheduler,), daemon=True).start()


def _process_space() -> str:
    """What tells apart containers with process numbers of their own (Linux)."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _wait_and_end(scheduler: psutil.Process) -> None:
    while lives(scheduler):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def lives(process: psutil.Process) -> bool:
    """Whether a process still does something: one that only waits for its parent to take note does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
