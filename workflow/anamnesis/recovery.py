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

# environment variable: process id of the Snakemake process a job belongs to
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
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / "alive").open("a")
    _held.append(handle)
    stale = []
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = list((folder / "locks").glob("*.lock"))
        for file in stale:
            file.unlink(missing_ok=True)
    except BlockingIOError:  # another run is alive: its locks count
        pass
    except OSError:
        return False
    fcntl.flock(handle, fcntl.LOCK_SH)
    return bool(stale)


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


def end_with_scheduler() -> None:
    """Let this process end as soon as the Snakemake process that started it has.

    Otherwise a job would go on alone after ``kill -9`` of Snakemake, and write to the same files as the job
    that the next run starts in its place.
    """
    number = os.environ.get(SCHEDULER, "")
    scheduler = next((p for p in psutil.Process().parents() if str(p.pid) == number), None)
    if scheduler is not None:  # None: started by hand, or in a container with process numbers of its own
        threading.Thread(target=_wait_and_end, args=(scheduler,), daemon=True).start()


def _wait_and_end(scheduler: psutil.Process) -> None:
    while _lives(scheduler):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
