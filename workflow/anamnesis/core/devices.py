"""Which GPU a job may use, when several jobs run on one computer."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from anamnesis.core.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
NAME = re.compile(r"\d+|(GPU|MIG)-.+")
DEVICE_FILES = Path("/dev")
SCHEDULED = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # number of the allocation of a cluster's scheduler
SECONDS_BETWEEN_TRIES = 1.0
SECONDS_FOR_THE_DRIVER = 10

log = logging.getLogger(__name__)


def present() -> list[str]:
    """Names of the GPUs a new job may choose from: those of CUDA_VISIBLE_DEVICES, or all NVIDIA devices.

    CUDA reads CUDA_VISIBLE_DEVICES up to the first entry that names no device (-1 is none at all), and counts
    the devices it finds from 0: in a container with /dev/nvidia3 alone, that one is 0.
    """
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return list(takewhile(NAME.fullmatch, (name.strip() for name in visible.split(","))))
    count = len(list(DEVICE_FILES.glob("nvidia[0-9]*"))) or _named_by_driver()
    return [str(number) for number in range(count)]


@cache
def _named_by_driver() -> int:
    """How many GPUs the driver lists where they have no files of their own (WSL2)."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SECONDS_FOR_THE_DRIVER
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d", listed.stdout, re.MULTILINE))


@contextmanager
def claimed(count: int, locks: Path | None = None) -> Iterator[Sequence[str]]:
    """Wait until ``count`` GPUs are free, reserve them, and let CUDA see no others.

    A claim is a lock of the operating system on a file for each device, which also ends when the process is
    killed. Nothing changes where a cluster's scheduler assigned exactly so many, or where there are fewer
    GPUs. Call it before torch is imported.
    """
    devices = present()
    allocation = next(filter(None, map(os.environ.get, SCHEDULED)), "")
    if count < 1 or len(devices) < count or (allocation and len(devices) == count):
        yield devices
        return
    folder = locks or Path(tempfile.gettempdir())
    # Slurm may number the devices of every allocation from 0: one name, and another device in each.
    files = {name: folder / f"anamnesis-gpu-{allocation or 'local'}-{name}.lock" for name in devices}
    with ExitStack() as held:
        claim = _wait_for(count, files, held)
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(claim)
        log.info("%s=%s", VISIBLE, os.environ[VISIBLE])
        try:
            yield claim
        finally:
            os.environ.pop(VISIBLE) if before is None else os.environ.update({VISIBLE: before})


def _wait_for(count: int, files: dict[str, Path], held: ExitStack) -> list[str]:
    """Lock ``count`` of the devices, all of them or none, and try until it works."""
    logged = False
    while True:
        with ExitStack() as attempt:
            claim = []
            for device, file in files.items():
                if not _locked(file, attempt):
                    continue
                claim.append(device)
                if len(claim) == count:
                    held.push(attempt.pop_all().__exit__)
                    return claim
        if not logged:
            free = f"{len(claim)} of {len(files)} GPUs are free, {count} are needed"
            log.info("waiting for other jobs: %s (%s)", free, ", ".join(map(str, files.values())))
            logged = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _locked(file: Path, attempt: ExitStack) -> bool:
    """Whether ``file``, which all users of a computer share, could be locked until the end of ``attempt``."""
    try:
        attempt.enter_context(FileLock(file, mode=0o666).acquire(timeout=0))
    except Timeout:
        return False
    except OSError as error:
        raise UserError(
            f"the GPU lock {file} cannot be opened ({error.strerror}): remove it, or set TMPDIR to another "
            "folder, the same for all who use these GPUs"
        ) from None
    return True
