"""The memory and GPUs of this computer, which all jobs on it share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from anamnesis.core.devices import present


def limits() -> dict[str, int]:
    """As Snakemake's resources. Without a GPU that resource has no limit: a job that needs one reports it."""
    gpus = len(present())
    return {"mem_mb": total_memory_mib()} | ({"gpu": gpus} if gpus else {})


def total_memory_mib(
    group_file: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """The memory of this computer, or of the container or cluster job that this process is in."""
    sizes = [psutil.virtual_memory().total]
    with suppress(OSError, StopIteration):  # not Linux, or no control groups of version 2
        lines = group_file.read_text(encoding="utf-8").splitlines()
        folder = groups / next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for group in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # no limit: no such file, or "max" in it
                sizes.append(int((group / "memory.max").read_text(encoding="utf-8")))
    return min(sizes) // 2**20
