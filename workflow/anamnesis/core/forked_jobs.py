"""Jobs as forks of one process that has imported the libraries and loaded the model: torch, transformers,
peft and the weights cost every process of its own about six seconds of a core, a fifth of a run on a
workstation.

Snakemake's process starts the server. When a job first needs them, the server imports libraries, which begin
no thread that minds a fork, and loads the model. Each job's own process sends its command line, environment,
folder and standard streams and waits; the server forks, and the fork runs the script of the job from its
first line. A supervisor in between passes signals on, tells how the fork ended, and kills it when the job's
own process is gone. The server ends with Snakemake. Linux only: elsewhere, and wherever the server cannot be
reached, a job imports for itself.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import NoReturn

from anamnesis.core.environment import set_up_libraries

SERVER = "ANAMNESIS_FORKS"  # environment variable: name of the server's socket, and whose Python it is
LIBRARIES = (
    "pandas", "pyarrow.parquet", "snakemake.script", "scipy.stats",
    "matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg",
)  # fmt: skip
FOR_MODELS = (
    "torch", "transformers", "transformers.trainer", "peft", "safetensors.torch",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
)  # fmt: skip
LOAD = ("anamnesis.models.loading", "load_ahead")  # named, as the core imports nothing above it
FORKED = b"+"  # sent to the job once its fork runs
PASSED_ON = (signal.SIGINT, signal.SIGTERM)
STREAMS = (0, 1, 2)
SIZE = struct.Struct("I")  # of the text that says which job, before it
ASKING = 10  # seconds that a job may take to say which
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def start_server() -> None:
    """Let the jobs that this process starts from now on be forks, where the system allows it."""
    if sys.platform == "linux":
        with suppress(OSError):
            _start_server()


def _start_server() -> None:
    name = f"anamnesis-{uuid.uuid4().hex}"
    # It listens before any job starts. The name is not one of a file: nothing is left of it in the end.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(128)
        # a session of its own: Ctrl-C reaches the jobs' own processes, which pass it on
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            stdin=subprocess.PIPE,  # its end tells the server that this process has ended
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    atexit.register(server.stdin.close)
    os.environ[SERVER] = f"{name} {sys.prefix}"


def run_in_fork(needs_model: bool = False, snapshot: Mapping | None = None) -> None:
    """Run this job's script in a fork, and end this process as the fork ends. Returns where there is no
    server of the same Python, having done nothing. ``snapshot``: arguments of ``load_ahead`` for the model
    that the job loads.
    """
    name, _, prefix = os.environ.pop(SERVER, "").partition(" ")  # the fork does not ask again
    if not name or prefix != sys.prefix:
        return
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{name}")
        job = {"argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ)}
        job |= {"needs_model": needs_model, "snapshot": snapshot}
        text = json.dumps(job).encode()
        socket.send_fds(connection, [SIZE.pack(len(text))], STREAMS)
        connection.sendall(text)
        for number in PASSED_ON:
            signal.signal(number, partial(_pass_on, connection))
        forked = connection.recv(1) == FORKED
    except OSError:
        forked = False
    if forked:
        _end_as(connection.makefile().readline())
    for number, handler in zip(PASSED_ON, (signal.default_int_handler, signal.SIG_DFL), strict=True):
        signal.signal(number, handler)


def _pass_on(connection: socket.socket, number: int, _) -> None:
    with suppress(OSError):  # the fork has ended meanwhile
        connection.send(bytes([number]))


def _end_as(status: str) -> NoReturn:
    """End this process with an exit status, or by the signal -status."""
    if not status:
        sys.exit("the process that this job ran in was lost: run the same command again")
    if int(status) < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-int(status), signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    _leave(int(status))


def serve(listener: socket.socket) -> dict | None:
    """Fork for every job that asks; returns the job in its fork, and None once standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    set_up_libraries(threads=1)
    while True:
        ready, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listener.accept()
        job = _job_of(connection)
        if job:
            _prepare(job)
            if os.fork() == 0:
                listener.close()
                return _supervise(connection, job)
            for stream in job["streams"]:
                os.close(stream)
        connection.close()


def _job_of(connection: socket.socket) -> dict | None:
    """What a process asks for; None where it belongs to another user or does not say."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.getuid():
        return None
    connection.settimeout(ASKING)
    streams: list[int] = []
    try:
        size, streams, _, _ = socket.recv_fds(connection, SIZE.size, len(STREAMS))
        job = json.loads(_read(connection, *SIZE.unpack(size)))
    except (OSError, ValueError, struct.error):
        for stream in streams:
            os.close(stream)
        return None
    connection.settimeout(None)
    return job | {"streams": streams}


def _read(connection: socket.socket, size: int) -> bytes:
    """So many bytes, in as many parts as they come, and not one more: signals may follow."""
    text = b""
    while len(text) < size:
        part = connection.recv(size - len(text))
        if not part:
            raise ConnectionError("the job ended before it had said what it is")
        text += part
    return text


def _prepare(job: dict) -> None:
    """Import what the job needs, and load its model, unless that is done: the forks share what is there."""
    gc.disable()
    for name in LIBRARIES + (FOR_MODELS if job["needs_model"] else ()):
        import_module(name)
    if job["snapshot"]:
        os.chdir(job["folder"])
        with suppress(Exception):  # the job meets the same error, and says so
            getattr(import_module(LOAD[0]), LOAD[1])(**job["snapshot"])
    gc.enable()
    gc.freeze()  # else the collector of each fork would write to all of it


def _supervise(connection: socket.socket, job: dict) -> dict:
    """Fork once more. Returns the job in its fork; the supervisor ends here when the fork has."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # until the fork runs the job: Python drops what its own code in a new fork raises
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    supervisor, fork = os.getpid(), os.fork()
    if fork == 0:
        connection.close()
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        return job
    for stream in job["streams"]:
        os.close(stream)
    connection.sendall(FORKED)
    ended = os.pidfd_open(fork)
    while ended not in select.select([ended, connection], [], [])[0]:
        numbers = connection.recv(16)
        if not numbers:  # the job's own process is gone
            os.kill(fork, signal.SIGKILL)
            break
        for number in numbers:
            os.kill(fork, number)
    _, status = os.waitpid(fork, 0)
    try:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    finally:
        os._exit(0)


def run_job_of(job: dict) -> None:
    """Run a job's script as its own process would have."""
    for stream, number in zip(job["streams"], STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv[:], sys.path[:] = job["argv"], job["path"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    runpy.run_path(sys.argv[0], run_name="__main__")
    if threading.active_count() == 1:
        _leave(0)


def _leave(status: int) -> NoReturn:
    """End this process without taking all modules apart first: with torch that takes 0.3 s."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    job = serve(socket.socket(fileno=int(sys.argv[1])))
    if job:
        run_job_of(job)
