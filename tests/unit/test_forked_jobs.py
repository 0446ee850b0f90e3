"""Jobs as forks: the same job as in a process of its own, and it ends with that process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from anamnesis.core import forked_jobs
from anamnesis.core.forked_jobs import SERVER, run_in_fork
from anamnesis.core.recovery import is_running
from anamnesis.models.loading import load_model

LIBRARY = Path(forked_jobs.__file__).parents[2]
SNAKEMAKE = """
    import os, sys
    from anamnesis.core.forked_jobs import SERVER, start_server
    start_server()
    print(os.environ[SERVER], flush=True)
    sys.stdin.read()
"""
BEGIN = """\
import os, signal, sys, time
from anamnesis.core.forked_jobs import run_in_fork
run_in_fork({asks})
"""
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

    def begun(work: str, name: str = server, asks: str = "") -> subprocess.Popen:
        script = tmp_path / "script.py"
        script.write_text(BEGIN.format(asks=asks) + textwrap.dedent(work))
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
    process = job(
        """
        print(sys.argv[1], os.getcwd(), os.fsencode(os.environ["OF_THE_JOB"]), __name__, __file__)
        print("pandas" in sys.modules, "peft" in sys.modules, os.getpid(), "ANAMNESIS_FORKS" in os.environ)
        print("said aside", file=sys.stderr)
        """,
        asks="needs_model=True",
    )
    out, err = process.communicate(timeout=60)
    first, second = out.splitlines()
    assert first == f"an argument {tmp_path} {os.fsencode(ODD)} __main__ {tmp_path / 'script.py'}"
    pandas, peft, number, asks_again = second.split()
    assert (pandas, peft, asks_again) == ("True", "True", "False")
    assert int(number) != process.pid
    assert err == "said aside\n"
    assert process.returncode == 0


@pytest.fixture
def another_server():
    """The name of a server that nobody has asked before."""
    snakemake = start(SNAKEMAKE, stdout=subprocess.PIPE)
    yield snakemake.stdout.readline().strip()
    snakemake.communicate()


def test_large_environment_comes_whole(job, monkeypatch):
    """It does not come in one piece."""
    for name in ("FIRST", "SECOND", "THIRD"):
        monkeypatch.setenv(name, name * 20_000)
    process = job("print(os.getpid(), [len(os.environ[n]) for n in ('FIRST', 'SECOND', 'THIRD')])")
    number, lengths = process.communicate(timeout=60)[0].split(maxsplit=1)
    assert int(number) != process.pid
    assert lengths == "[100000, 120000, 100000]\n"


def test_torch_is_there_once_a_job_has_a_model(job, another_server):
    """A run of figures alone does not wait for it."""
    said = [
        job("print('torch' in sys.modules, 'peft' in sys.modules)", another_server, asks).communicate()[0]
        for asks in ("", "needs_model=True", "")
    ]
    assert said == ["False False\n", "True True\n", "True True\n"]


LOAD = """
from anamnesis.models import loading
ahead = [loaded.model for loaded in loading._ahead.values()]
model, _ = loading.load_model("{snapshot}")
weight = model.get_input_embeddings().weight
print([model] == ahead, not loading._ahead, float(weight.sum()))
weight.data.zero_()
again, _ = loading.load_model("{snapshot}")
print(again is model, float(again.get_input_embeddings().weight.sum()))
"""


def ask_for(snapshot: Path) -> dict[str, str]:
    asks = f"needs_model=True, snapshot={{'snapshot': '{snapshot}'}}"
    return {"work": LOAD.format(snapshot=snapshot), "asks": asks}


def test_model_is_loaded_once_for_all_forks(job, another_server, snapshot, tmp_path):
    """A fork may do with it what it likes. A snapshot that was written again is loaded again, and so is
    another one.
    """
    copies = [shutil.copytree(snapshot, tmp_path / name) for name in ("first", "second")]
    wanted = float(load_model(copies[0])[0].get_input_embeddings().weight.detach().sum())
    taken = f"True True {wanted}\nFalse {wanted}\n"
    for copy in (copies[0], copies[0], copies[1], copies[0]):
        assert job(name=another_server, **ask_for(copy)).communicate()[0] == taken

    weights = load_file(copies[0] / "model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, copies[0] / "model.safetensors")
    taken = f"True True {2 * wanted}\nFalse {2 * wanted}\n"
    assert job(name=another_server, **ask_for(copies[0])).communicate()[0] == taken


def test_server_has_one_thread(job, another_server, snapshot):
    """What others hold at a fork, such as a lock, nobody would ever give back in the fork. The allocator of
    pyarrow has a thread too, and is made for forks.
    """
    job(name=another_server, **ask_for(snapshot)).communicate()
    servers = [p for p in psutil.Process().children(recursive=True) if forked_jobs.__name__ in p.cmdline()]
    names = [file.read_text().strip() for p in servers for file in Path(f"/proc/{p.pid}/task").glob("*/comm")]
    others = [name for name in names if name != "jemalloc_bg_thd"]
    assert len(others) == len(servers) > 0


def test_snapshot_that_cannot_be_read_is_the_jobs_to_tell(job, tmp_path):
    _, err = job(**ask_for(tmp_path)).communicate()
    assert "is not a model snapshot" in err


def test_process_that_says_nothing_does_not_hold_up_the_others(job, server):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(f"\0{server.split()[0]}")
        silent.send(b"\xff")
        silent.shutdown(socket.SHUT_WR)
        process = job("print('done')")
        assert process.communicate(timeout=60)[0] == "done\n"


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
def test_signals_are_not_lost_while_the_server_imports(job, another_server, tmp_path, number):
    """The first job of a run waits for seconds, in which its user may change their mind."""
    process = job(f"{NUMBER}time.sleep(60)", another_server, "needs_model=True")
    caught = f"SigCgt:\\s*[0-9a-f]*{1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1):x}$"
    status = Path(f"/proc/{process.pid}/status")
    wait_until(lambda: re.search(caught, status.read_text(), re.MULTILINE))  # the job has asked
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (tmp_path / "fork").exists() or gone(fork_of(tmp_path))


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
    begin = BEGIN.format(asks="needs_model=True")
    code = f"{begin}print(os.getpid(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    process = start(code, stdout=subprocess.PIPE, env={SERVER: name})
    out, _ = process.communicate(timeout=60)
    assert out == f"{process.pid} True\n"
    snakemake.communicate()


def test_nothing_is_asked_where_no_server_is_named(monkeypatch):
    monkeypatch.delenv(SERVER, raising=False)
    assert run_in_fork() is None
