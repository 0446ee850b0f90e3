"""What a killed run leaves behind (locks, half-written files, orphaned jobs) and how the next one removes it;
and how a job ends on SIGTERM.
"""

from __future__ import annotations

import base64
import fcntl
import glob
import json
import os
import platform
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from anamnesis.core.artifacts import write_text
from anamnesis.core.errors import UserError, one_line

# environment variable: number of the Snakemake process a job belongs to, and where that number is valid
SCHEDULER = "ANAMNESIS_SCHEDULER"
RUN = "ANAMNESIS_RUN"  # environment variable: the run a job belongs to, as `claim_folder` wrote it to a file
SECONDS_BETWEEN_CHECKS = 0.5
SECONDS_BETWEEN_READS = 5  # of a file that may be on a network disk
# a workflow may have this one as a module twice: two handles of one process would exclude each other
_HELD: dict[Path, IO] = {}


def hold_folder(folder: Path) -> IO | None:
    """Keep other runs out of ``folder`` (.snakemake) until the returned file is closed.

    It holds a lock of the operating system, which also ends when the process is killed. None where the file
    system has no such locks, the same file where this process holds it. Raises UserError when another run
    does.
    """
    if (held := _HELD.get(folder.absolute())) and not held.closed:
        return held
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # not "w", which would erase the name of the run that holds the lock
        handle = (folder / "alive").open("a+", encoding="utf-8", errors="replace")
        _lock(handle)
    except BlockingIOError:
        handle.seek(0)
        raise UserError(
            f"another run ({one_line(handle.read())}) is at work in {folder.parent.absolute()}: wait until "
            "it has ended, or give this one another --directory"
        ) from None
    except OSError:
        return None
    with suppress(OSError):  # a full disk: the lock holds without a name
        handle.truncate(0)
        os.write(handle.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
    _HELD[folder.absolute()] = handle
    return handle


def is_held(folder: Path) -> bool:
    """Whether a run holds ``folder`` (.snakemake); False where the file system has no such locks."""
    try:
        with (folder / "alive").open(encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock(handle: IO, seconds: float = 1) -> None:
    """Try for ``seconds``, as a dry run holds the lock for a moment. Raises BlockingIOError after that."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def remove_locks(folder: Path) -> bool:
    """Remove the locks, plain files, that a killed Snakemake left in ``folder`` (.snakemake). True if there
    were any. Call ``hold_folder`` first, which makes sure that no other run is alive.
    """
    stale = list((folder / "locks").glob("*.lock"))
    for file in stale:
        file.unlink(missing_ok=True)
    return bool(stale)


def mend_metadata(folder: Path) -> list[str]:
    """Replace every damaged record of Snakemake in ``folder`` (.snakemake) by its mark of an incomplete
    result: only the record tells with which parameters a result was made. Returns a message for each.
    """
    messages = []
    for file in sorted((folder / "metadata").rglob("*")):
        if file.is_file() and not _is_record(file):
            name = file.relative_to(folder / "metadata")
            mark = folder / "incomplete" / name
            mark.parent.mkdir(parents=True, exist_ok=True)
            # what Snakemake itself writes when a job starts: it makes such results again
            mark.write_text('{"external_jobid": null}', encoding="utf-8")
            file.unlink()
            messages.append(f"Snakemake's record of {_result_of(name)} is damaged: it is made again")
    return messages


def _is_record(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except ValueError:
        return False


def _result_of(name: Path) -> str:
    """The path of a result, which Snakemake encodes in the name of its record, or in several folders."""
    encoded = "".join(part.removeprefix("@") for part in name.parts)
    try:
        return base64.urlsafe_b64decode(encoded).decode()
    except ValueError:
        return str(name)


def remove_leftovers(outputs: Iterable[str | Path]) -> None:
    """Delete the temporary files of ``artifacts.atomic_path`` and ``atomic_directory`` for ``outputs`` that a
    killed process left.
    """
    for path in map(Path, outputs):
        for ending in ("part", "old"):
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.{ending}"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def announce_scheduler() -> None:
    """Tell the jobs started from now on that this process is their Snakemake. A Snakemake inside a cluster
    job does so too: its jobs must not take the Snakemake that submitted it for theirs.
    """
    os.environ[SCHEDULER] = f"{os.getpid()} {_process_space()}"


def claim_folder(folder: Path) -> None:
    """Write the name of a new run to ``folder`` (.snakemake) and to the environment of its jobs."""
    os.environ[RUN] = uuid.uuid4().hex
    write_text(folder / "run", os.environ[RUN])


def superseded(folder: Path) -> bool:
    """Whether another run has begun in ``folder`` since this job was submitted. The cluster keeps the jobs of
    a killed Snakemake.
    """
    run = os.environ.get(RUN)
    try:
        return run is not None and run != (folder / "run").read_text(encoding="utf-8")
    except OSError:
        return False


def end_with_scheduler(folder: Path = Path(".snakemake")) -> None:
    """End this process when the Snakemake process that started it ends, or another run begins.

    Otherwise a job would go on after ``kill -9`` of Snakemake and write the same files as a job of the next
    run. Does nothing for a script started by hand. In a container with process numbers of its own, only
    another run counts.
    """
    if RUN in os.environ:
        _end_when(partial(superseded, folder.absolute()), SECONDS_BETWEEN_READS)
    number, _, space = os.environ.get(SCHEDULER, "").partition(" ")
    if not number or space != _process_space():
        return
    scheduler = next((p for p in psutil.Process().parents() if str(p.pid) == number), None)
    if scheduler is None:  # it was killed while this process started
        os._exit(1)
    _end_when(lambda: not is_running(scheduler), SECONDS_BETWEEN_CHECKS)


def _process_space() -> str:
    """The namespace of process numbers, which a container may have for itself (Linux)."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _end_when(condition: Callable[[], bool], seconds: float) -> None:
    def watch() -> None:
        while not condition():
            time.sleep(seconds)
        os._exit(1)  # sys.exit would end this thread alone

    threading.Thread(target=watch, daemon=True).start()


def is_running(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def sigterm_received() -> Iterator[Callable[[], bool]]:
    """In this block SIGTERM does not end the process; yields a function that tells whether it has come.

    Cluster schedulers send it some time before they take the machine away. Only the main thread can catch
    signals: in others nothing changes.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
