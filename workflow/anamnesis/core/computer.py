"""What this computer has for the jobs that run on it at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from anamnesis.core.devices import present


def limits() -> dict[str, int]:
    """As Snakemake's resources. Without a GPU none is limited: a job that needs one says so itself."""
    gpus = len(present())
    return {"mem_mb": total_memory_mib()} | ({"gpu": gpus} if gpus else {})


def total_memory_mib(own: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory of this computer, or of the container or the cluster's job that this process is in."""
    found = [psutil.virtual_memory().total]
    with suppress(OSError, StopIteration):  # no Linux, or one without control groups of version 2
        lines = own.read_text(encoding="utf-8").splitlines()
        folder = groups / next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for group in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # no limit: no such file, or "max" in it
                found.append(int((group / "memory.max").read_text(encoding="utf-8")))
    return min(found) // 2**20
