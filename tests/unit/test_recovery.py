"""What killed runs and jobs leave behind, and how the next ones see that they are dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from anamnesis.core import job, recovery
from anamnesis.core.errors import UserError
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
