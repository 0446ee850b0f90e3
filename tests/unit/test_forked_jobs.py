"""Jobs as forks: the same job as in a process of its own, and it ends with that process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from anamnesis.core import forked_jobs
from anamnesis.core.forked_jobs import SERVER, run_in_fork
from anamnesis.core.recovery import is_running

LIBRARY = Path(forked_jobs.__file__).parents[2]
SNAKEMAKE = """
    import os, sys
    from anamnesis.core.forked_jobs import SERVER, start_server
    start_server()
    print(os.environ[SERVER], flush=True)
    sys.stdin.read()
"""
BEGIN = "import os, signal, sys, time\nfrom anamnesis.core.forked_jobs import run_in_fork\nrun_in_fork()\n"
ODD = "ü \udcff"  # the second is a byte that is no text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


def start(code: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), **options.pop("env", {})}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def server():
    """The name of a running server."""
    snakemake = start(SNAKEMAKE, stdout=subprocess.PIPE)
    yield snakemake.stdout.readline().strip()
    snakemake.communicate()


@pytest.fixture
def job(server, tmp_path):
    """Starts a job whose script does ``work`` in its fork."""

    def begun(work: str, name: str = server) -> subprocess.Popen:
        script = tmp_path / "script.py"
        script.write_text(BEGIN + textwrap.dedent(work))
        return subprocess.Popen(
            [sys.executable, str(script), "an argument"],
            env={**os.environ, "PYTHONPATH": str(LIBRARY), SERVER: name, "OF_THE_JOB": ODD},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begun


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def fork_of(tmp_path: Path) -> psutil.Process:
    """The fork, which writes its number to a file."""
    file = tmp_path / "fork"
    wait_until(lambda: file.exists() and file.read_text().strip())
    return psutil.Process(int(file.read_text()))


def gone(process: psutil.Process, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while is_running(process) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(process)


NUMBER = "print(os.getpid(), file=open('fork', 'w'), flush=True)\n"


def test_fork_is_the_job(job, tmp_path):
    """Command line, folder, environment, standard streams, and the libraries are there."""
    process = job("""
        print(sys.argv[1], os.getcwd(), os.fsencode(os.environ["OF_THE_JOB"]), __name__, __file__)
        print("torch" in sys.modules, "peft" in sys.modules, os.getpid(), "ANAMNESIS_FORKS" in os.environ)
        print("said aside", file=sys.stderr)
    """)
    out, err = process.communicate(timeout=60)
    first, second = out.splitlines()
    assert first == f"an argument {tmp_path} {os.fsencode(ODD)} __main__ {tmp_path / 'script.py'}"
    torch, peft, number, asks_again = second.split()
    assert (torch, peft, asks_again) == ("True", "True", "False")
    assert int(number) != process.pid
    assert err == "said aside\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("sys.exit(3)", 3),
        ("raise ValueError('a mistake')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)",
            -signal.SIGTERM,
        ),
    ],
)
def test_job_ends_as_its_fork(job, work, status):
    process = job(work)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert ("ValueError: a mistake" in err) == (status == 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_fork(job, tmp_path, number):
    process = job(f"""
        signal.signal({int(number)}, lambda *_: sys.exit(7))
        {NUMBER}
        time.sleep(60)
    """)
    fork = fork_of(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 7
    assert gone(fork)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_not_lost_while_the_server_imports(job, tmp_path, number):
    """The first job of a run waits for seconds, in which its user may change their mind."""
    snakemake = start(SNAKEMAKE, stdout=subprocess.PIPE)
    process = job(f"{NUMBER}time.sleep(60)", snakemake.stdout.readline().strip())
    caught = f"SigCgt:\\s*[0-9a-f]*{1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1):x}$"
    status = Path(f"/proc/{process.pid}/status")
    wait_until(lambda: re.search(caught, status.read_text(), re.MULTILINE))  # the job has asked
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (tmp_path / "fork").exists() or gone(fork_of(tmp_path))
    snakemake.communicate()


def test_a_system_without_such_sockets_has_no_server(monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.delenv(SERVER, raising=False)
    monkeypatch.setattr(forked_jobs.socket, "socket", refused)
    forked_jobs.start_server()
    assert SERVER not in os.environ


def test_fork_dies_with_its_job(job, tmp_path):
    process = job(f"{NUMBER}time.sleep(60)")
    fork = fork_of(tmp_path)
    process.kill()
    process.communicate()
    assert gone(fork)


def test_job_whose_fork_is_lost_says_so(job, tmp_path):
    process = job(f"{NUMBER}time.sleep(60)")
    fork = fork_of(tmp_path)
    fork.parent().kill()  # the supervisor
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err == "the process that this job ran in was lost: run the same command again\n"
    assert gone(fork)


def test_server_ends_with_snakemake():
    snakemake = start(SNAKEMAKE, stdout=subprocess.PIPE)
    snakemake.stdout.readline()
    (server,) = psutil.Process(snakemake.pid).children()
    snakemake.kill()
    snakemake.communicate()
    assert gone(server)


@pytest.mark.parametrize("name", ["", "nobody {prefix}", "{server} /another/python"])
def test_without_a_server_a_job_runs_in_its_own_process(job, server, name):
    named = name.format(prefix=sys.prefix, server=server.split()[0])
    process = job("print(os.getpid(), 'torch' in sys.modules, signal.getsignal(signal.SIGTERM) == 0)", named)
    out, _ = process.communicate(timeout=60)
    assert out == f"{process.pid} False True\n"


def test_server_that_cannot_import_leaves_jobs_to_themselves(tmp_path):
    """A library that fails shows its error in the job, not in the server."""
    (tmp_path / "peft.py").write_text("raise ImportError('broken')")
    snakemake = start(SNAKEMAKE, stdout=subprocess.PIPE, env={"PYTHONPATH": f"{tmp_path}:{LIBRARY}"})
    name = snakemake.stdout.readline().strip()
    code = f"{BEGIN}print(os.getpid(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    process = start(code, stdout=subprocess.PIPE, env={SERVER: name})
    out, _ = process.communicate(timeout=60)
    assert out == f"{process.pid} True\n"
    snakemake.communicate()


def test_nothing_is_asked_where_no_server_is_named(monkeypatch):
    monkeypatch.delenv(SERVER, raising=False)
    assert run_in_fork() is None
