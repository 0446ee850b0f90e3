"""Several processes for one job: they know their numbers, answer together, and none outlives the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from anamnesis.core.errors import UserError
from anamnesis.core.processes import Elsewhere, run_together
from runs import all_end

LIBRARY = Path(__file__).parents[2] / "workflow"
FOR_EVER = 100


def numbered(folder: Path, word: str) -> str:
    (folder / os.environ["RANK"]).write_text(
        f"{word} {os.environ['LOCAL_RANK']} of {os.environ['WORLD_SIZE']}"
    )
    return os.environ["RANK"]


def write_begun(folder: Path, number: int) -> None:
    (folder / f"begun {number}").touch()


def one_fails(folder: Path, how: str) -> None:
    """The second of two; the first would wait for it for ever."""
    if os.environ["RANK"] == "0":
        (folder / "first").write_text(str(os.getpid()))
        time.sleep(FOR_EVER)
    while not (folder / "first").exists():
        time.sleep(0.01)
    if how == "mistake":
        raise UserError("training.batch_size = 0: give 1 or more")
    if how == "error":
        raise KeyError("nothing of this name")
    os.kill(os.getpid(), signal.SIGKILL)


def lose_another(folder: Path) -> None:
    """The first process notices the end of the second, and says so before anybody else can."""
    if os.environ["RANK"] == "1":
        (folder / "second").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    while not (folder / "second").exists():
        time.sleep(0.01)
    raise RuntimeError("connection closed by peer")


def test_each_process_knows_its_number_and_the_first_answers(tmp_path):
    arguments = {"folder": tmp_path, "word": "process"}
    assert run_together(2, numbered, arguments, partial(write_begun, tmp_path)) == "0"
    assert [(tmp_path / name).read_text() for name in "01"] == ["process 0 of 2", "process 1 of 2"]
    assert {"begun 0", "begun 1"} <= set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("mistake", UserError, r"^training\.batch_size = 0: give 1 or more$"),
        ("error", KeyError, "nothing of this name"),
        ("kill", UserError, r"^process 2 of 2 .* SIGKILL: run the same command again[^\n]*$"),
    ],
)
def test_one_that_fails_ends_all_with_its_own_error(how, kind, says, tmp_path):
    with pytest.raises(kind, match=says) as caught:
        run_together(2, one_fails, {"folder": tmp_path, "how": how})
    assert not psutil.pid_exists(int((tmp_path / "first").read_text()))
    if how != "kill":
        assert isinstance(caught.value.__cause__, Elsewhere)
        assert "in one_fails" in str(caught.value.__cause__)  # for the log


def test_of_a_killed_process_and_one_that_lost_it_the_first_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^process 2 of 2 .* SIGKILL"):
        run_together(2, lose_another, {"folder": tmp_path})


STARTER = textwrap.dedent("""\
    import os, signal, sys, time
    from pathlib import Path
    from anamnesis.core.processes import run_together

    def work(folder):
        signal.signal(signal.SIGTERM, lambda *_: (folder / f"told {os.environ['RANK']}").touch())
        (folder / f"pid {os.environ['RANK']}").write_text(str(os.getpid()))
        while not (folder / f"told {os.environ['RANK']}").exists():
            time.sleep(0.05)

    if __name__ == "__main__":
        run_together(2, work, {"folder": Path(sys.argv[1])})
""")


@pytest.fixture
def started(tmp_path):
    """(a program that runs two processes until they are told to end, these two)"""
    (tmp_path / "starter.py").write_text(STARTER)
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    program = subprocess.Popen([sys.executable, tmp_path / "starter.py", tmp_path], env=environment)
    end = time.monotonic() + 60
    files = [tmp_path / f"pid {number}" for number in (0, 1)]
    while not all(file.exists() and file.read_text() for file in files):
        assert program.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    yield program, [psutil.Process(int(file.read_text())) for file in files]
    program.kill()
    program.wait()


def test_sigterm_reaches_all(started, tmp_path):
    program, _ = started
    program.terminate()
    assert program.wait(20) == 0
    assert all((tmp_path / f"told {number}").exists() for number in (0, 1))


def test_none_outlives_the_one_that_started_them(started):
    program, workers = started
    program.kill()
    assert all_end(workers)
