"""What all jobs share: arguments, records, one line on the terminal."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake.iocontainers import InputFiles, Namedlist, OutputFiles, Params, ResourceList

from anamnesis.core import artifacts, job
from anamnesis.core.artifacts import check_writable
from anamnesis.core.errors import UserError
from anamnesis.core.job import run_job
from anamnesis.core.recovery import (
    SCHEDULER,
)

LIBRARY = Path(job.__file__).parents[2]
SCRIPTS = LIBRARY / "scripts"


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


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_import_no_library_before_they_run(script):
    """The process that waits for its fork would import it for nothing."""
    code = f"import sys, {script.stem}; print(*{{'pandas', 'torch', 'matplotlib'}}.intersection(sys.modules))"
    folders = os.pathsep.join(map(str, (LIBRARY, SCRIPTS)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("\n", "")


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
