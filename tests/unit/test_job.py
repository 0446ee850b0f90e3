"""What all jobs share: arguments, records, one line on the terminal; and what killed ones leave behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from snakemake.iocontainers import InputFiles, Namedlist, OutputFiles, Params, ResourceList
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from anamnesis.core import artifacts, job, recovery
from anamnesis.core.artifacts import check_writable
from anamnesis.core.errors import UserError
from anamnesis.core.job import run_job
from anamnesis.core.recovery import (
    SCHEDULER,
    claim_folder,
    hold_folder,
    is_running,
    mend_metadata,
    remove_leftovers,
    remove_locks,
    superseded,
)

LIBRARY = Path(job.__file__).parents[2]


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """run_job changes the process it runs in, which is its own otherwise."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", SCHEDULER):
        monkeypatch.setenv(name, "1")
    root, package = logging.getLogger(), logging.getLogger("anamnesis")
    handlers, levels = list(root.handlers), (root.level, package.level)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for handler in set(root.handlers) - set(handlers):
        with suppress(OSError):
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    logging.captureWarnings(False)
    logging.raiseExceptions = True


@pytest.fixture
def call(tmp_path):
    """A job as Snakemake hands it to a script."""
    (tmp_path / "task.txt").write_text("x")
    return SimpleNamespace(
        rule="sum_up",
        threads=3,
        input=InputFiles(fromdict={"task": str(tmp_path / "task.txt"), "parts": ["a", "b"]}),
        output=OutputFiles(
            fromdict={"table": str(tmp_path / "out/t.csv"), "record": str(tmp_path / "out/t.json")}
        ),
        params=Params(fromdict={"seed": 4, "names": ["a", "b"], "code": "0123456789abcdef"}),
        resources=ResourceList(fromdict={"mem_mb": 10, "batch_tokens": 512}),
        log=Namedlist([str(tmp_path / "logs/job.log")]),
    )


@pytest.fixture
def log_file(tmp_path):
    return tmp_path / "logs/job.log"


def test_arguments_and_record(call, log_file, tmp_path):
    seen = {}

    def main(**arguments):
        seen.update(arguments)
        return {"rows": 7}

    run_job(call, main)
    assert seen == {
        "task": str(tmp_path / "task.txt"),
        "parts": ["a", "b"],
        "seed": 4,
        "names": ["a", "b"],
        "batch_tokens": 512,  # of the resources, only those that scripts know
        "table": str(tmp_path / "out/t.csv"),
    }
    record = json.loads((tmp_path / "out/t.json").read_text())
    assert record["rows"] == 7
    assert record["rule"] == "sum_up"
    assert record["code"] == "0123456789abcdef"
    assert record["params"] == {"seed": 4, "names": ["a", "b"], "batch_tokens": 512}
    assert list(record["inputs"]) == [str(tmp_path / "task.txt")]
    assert record["seconds"] >= 0
    assert record["peak_memory_mib"] > 0
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert torch.get_num_threads() == 3  # also where torch was there first


@pytest.mark.parametrize("named", [{}, {"few": ["b", "c"]}])
def test_what_is_annotated_as_a_sequence_is_a_list(call, named):
    seen = {}

    def main(
        one: Sequence[str],
        few: Sequence[str] | None,
        text: str,
        pairs: Mapping[str, Sequence[str]],
        later: Sequence[str] = (),
        **others,
    ):
        seen.update(one=one, few=few, text=text, pairs=pairs, later=later)

    files = {"one": ["a"], "few": ["b"], "text": ["t"], **named}
    call.input = InputFiles(
        fromdict={name: paths if len(paths) > 1 else paths[0] for name, paths in files.items()}
    )
    call.params = Params(fromdict={"pairs": {"x": "y"}})
    run_job(call, main)
    assert seen == {"one": ["a"], "few": files["few"], "text": "t", "pairs": {"x": "y"}, "later": ()}


def test_mistake_of_the_user_is_one_line_and_no_record(call, log_file, tmp_path, capsys):
    def main(**arguments):
        raise UserError("vectors.heads is 99: give at most 12")

    with pytest.raises(SystemExit) as end:
        run_job(call, main)
    assert end.value.code == 1
    assert capsys.readouterr().err == "ERROR vectors.heads is 99: give at most 12\n"
    assert "Traceback" in log_file.read_text()
    assert not (tmp_path / "out/t.json").exists()


def test_unexpected_error_is_one_line_that_names_the_log(call, log_file, capsys):
    def main(**arguments):
        raise KeyError("first\nsecond")

    with pytest.raises(SystemExit) as end:
        run_job(call, main)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR unexpected KeyError: ")
    assert line.endswith(f"(traceback in {log_file})")
    assert "Traceback" in log_file.read_text()


def speak(**arguments):
    logging.getLogger("anamnesis").warning("process %s", os.environ["RANK"])
    return {"threads": os.environ["OMP_NUM_THREADS"]}


def fail_in_the_second(**arguments):
    if os.environ["RANK"] == "0":
        time.sleep(100)
    raise UserError("training.batch_size = 0: give 1 or more")


def test_of_several_processes_the_first_speaks_for_all(call, log_file, tmp_path, capfd):
    call.resources = ResourceList(fromdict={"processes": 2})
    run_job(call, speak)
    assert capfd.readouterr().err == "WARNING process 0\n"
    assert log_file.read_text().count("process ") == 1
    record = json.loads((tmp_path / "out/t.json").read_text())
    assert record["threads"] == "1"  # of three, for two
    assert "processes" not in record["params"]


def test_a_mistake_in_one_of_several_processes_is_one_line(call, log_file, capfd):
    call.resources = ResourceList(fromdict={"processes": 2})
    with pytest.raises(SystemExit) as end:
        run_job(call, fail_in_the_second)
    assert end.value.code == 1
    assert capfd.readouterr().err == "ERROR training.batch_size = 0: give 1 or more\n"
    assert "in fail_in_the_second" in log_file.read_text()


def test_interrupt_ends_the_job_without_a_traceback(call, log_file, capsys):
    def main(**arguments):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_job(call, main)
    assert end.value.code == 130
    assert capsys.readouterr().err == ""


def test_information_goes_to_the_log_and_warnings_to_the_terminal_too(call, log_file, capsys):
    def main(**arguments):
        logging.getLogger("anamnesis.data").info("12 rows")
        logging.getLogger("anamnesis.data").warning("2 rows are dropped")

    run_job(call, main)
    assert capsys.readouterr().err == "WARNING 2 rows are dropped\n"
    assert "12 rows" in log_file.read_text()
    assert "2 rows are dropped" in log_file.read_text()


def test_full_disk_under_the_log_does_not_hide_the_line(call, capsys):
    call.log = Namedlist(["/dev/full"])  # every write fails: no space left on device

    def main(**arguments):
        raise UserError("no space left to write table.csv: free some")

    with pytest.raises(SystemExit):
        run_job(call, main)
    assert capsys.readouterr().err == "ERROR no space left to write table.csv: free some\n"


# ---------------------------------------------------------------- before a run


def test_folder_that_can_be_written_to_passes(tmp_path):
    check_writable(tmp_path)
    check_writable(tmp_path / "to/be/made")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_to_is_named_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"results = '.*/file/results': .* \(.*/file is not a folder\); mend that"
    ):
        check_writable(tmp_path / "file" / "results")
    monkeypatch.setattr(artifacts, "LEAST_FREE", 1 << 60)
    with pytest.raises(UserError, match=r"no space left on the disk of .*; mend that, or set `results`"):
        check_writable(tmp_path / "results")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root, everything is allowed
    with pytest.raises(UserError, match=rf"\({tmp_path} is not writable\)"):
        check_writable(tmp_path / "results")


# ---------------------------------------------------------------- after a kill


def start(code: str, folder: Path) -> subprocess.Popen:
    """A Python process that writes ``ready`` when it has come so far."""
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=environment)
    end = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


WRITER = """
    import time
    from pathlib import Path
    from anamnesis.core.artifacts import atomic_directory, atomic_path
    with atomic_path("out/table.parquet") as file, atomic_directory("out/adapter") as folder:
        file.write_text("half")
        (folder / "weights").write_text("half")
        Path("ready").touch()
        time.sleep(60)
"""


def test_next_job_removes_what_a_killed_one_had_begun(tmp_path):
    process = start(WRITER, tmp_path)
    process.kill()
    process.wait()
    out = tmp_path / "out"
    assert len(list(out.iterdir())) == 2  # both half-written
    (out / "table.parquet").write_text("whole")
    (out / ".table.parquet.swp").write_text("of an editor")
    (out / ".other.parquet.abc.part").write_text("of another job")
    remove_leftovers([out / "table.parquet", str(out / "adapter"), tmp_path / "not/there"])
    assert {path.name for path in out.iterdir()} == {
        "table.parquet", ".table.parquet.swp", ".other.parquet.abc.part",
    }  # fmt: skip


HOLDER = """
    import time
    from pathlib import Path
    from anamnesis.core.recovery import hold_folder
    held = hold_folder(Path(".snakemake"))
    Path(".snakemake/locks").mkdir()
    Path(".snakemake/locks/0.input.lock").touch()
    Path("ready").touch()
    time.sleep(60)
"""


def test_folder_belongs_to_one_run_until_its_process_ends(tmp_path):
    folder = tmp_path / ".snakemake"
    process = start(HOLDER, tmp_path)
    with pytest.raises(
        UserError, match=rf"another run \(process {process.pid} on .* is at work in {tmp_path}"
    ):
        hold_folder(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold_folder(folder):
        assert remove_locks(folder)
        assert not remove_locks(folder)
    with hold_folder(folder):  # given back
        pass
    (tmp_path / "file").touch()
    assert hold_folder(tmp_path / "file") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\0\0\0", b"[]", b"\xff"])
def test_damaged_record_of_snakemake_marks_its_result_as_incomplete(tmp_path, content):
    """Snakemake itself goes on without the record, and so without the parameters."""
    persistence = FilePersistence(path=tmp_path)
    for name in ("results/a.parquet", "results/" + 200 * "b"):
        persistence._mark_incomplete(name, None)
        persistence._write_record(name, MetadataRecord(rule="rule"))
        persistence._unmark_incomplete(name)
    assert mend_metadata(tmp_path) == []
    records = [file for file in (tmp_path / "metadata").rglob("*") if file.is_file()]
    for record in records:
        record.write_bytes(content)
    said = mend_metadata(tmp_path)
    assert "Snakemake's record of results/a.parquet is damaged: it is made again" in said
    assert f"Snakemake's record of results/{200 * 'b'} is damaged: it is made again" in said
    persistence._clear_cache()
    names = ["results/a.parquet", "results/" + 200 * "b", "results/c"]
    assert persistence._filter_incomplete_keys(names) == set(names[:2])
    assert persistence._read_record("results/a.parquet") is None


SCHEDULING = """
    import subprocess, sys
    from anamnesis.core.recovery import announce_scheduler
    announce_scheduler()
    job = (
        "import time; from pathlib import Path; from anamnesis.core.recovery import end_with_scheduler;"
        "end_with_scheduler(); Path('ready').write_text('x'); time.sleep(60)"
    )
    subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{job}"; true'])
"""


def test_job_ends_when_its_scheduler_is_killed(tmp_path):
    process = start(SCHEDULING, tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 2  # a shell, and the job
    time.sleep(2 * recovery.SECONDS_BETWEEN_CHECKS)
    assert all(map(is_running, family))
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while any(map(is_running, family)):
        assert time.monotonic() < end, "the job goes on alone"
        time.sleep(0.05)


def test_job_whose_scheduler_is_already_dead_ends_at_once(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    space = recovery._process_space()
    code = "from anamnesis.core.recovery import end_with_scheduler; end_with_scheduler(); print('goes on')"
    for scheduler, output in (
        (f"{dead.pid} {space}", ""),
        (f"{dead.pid} elsewhere", "goes on\n"),
        ("", "goes on\n"),
    ):
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY), SCHEDULER: scheduler}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout == output
        assert (done.returncode == 0) == bool(output)


SUBMITTED = """
    import time
    from pathlib import Path
    from anamnesis.core.recovery import claim_folder, end_with_scheduler, superseded
    claim_folder(Path(".snakemake"))
    end_with_scheduler()
    assert not superseded(Path(".snakemake"))
    Path("ready").touch()
    time.sleep(60)
"""


def test_job_of_a_dead_run_ends_when_another_run_begins(tmp_path, monkeypatch):
    """Nothing but the folder connects them: a cluster job may be on another machine."""
    monkeypatch.setenv(recovery.RUN, "put back afterwards")
    monkeypatch.delenv(recovery.RUN)
    code = "from anamnesis.core import recovery; recovery.SECONDS_BETWEEN_READS = 0.1\n"
    process = start(code + textwrap.dedent(SUBMITTED), tmp_path)
    time.sleep(0.5)
    assert process.poll() is None
    assert not superseded(tmp_path / ".snakemake")  # this process belongs to no run
    claim_folder(tmp_path / ".snakemake")
    assert process.wait(timeout=10) == 1
    (tmp_path / ".snakemake/run").unlink()  # what cannot be read ends nobody
    assert not superseded(tmp_path / ".snakemake")
