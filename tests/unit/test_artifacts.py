"""Files that are whole or not there, and the messages when they cannot be written or read."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import pandas as pd
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

import anamnesis
from anamnesis.core import artifacts
from anamnesis.core.artifacts import (
    SUMS,
    atomic_directory,
    atomic_path,
    damaged_file,
    digest_file,
    digest_json,
    read_json,
    read_parquet,
    read_tensors,
    write_json,
    write_parquet,
    write_sums,
    write_tensors,
    write_text,
)
from anamnesis.core.errors import UserError
from anamnesis.core.provenance import provenance

FRAME = pd.DataFrame({"a": range(500), "b": [[i, i + 1] for i in range(500)], "c": ["x"] * 500})


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def refuse(monkeypatch, module, function: str, number: int) -> None:
    """Let ``module.function`` fail as the system does with error ``number``."""

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, function, fail)


# ---------------------------------------------------------------- whole or not there


def test_content_round_trips_and_nothing_else_is_left(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"b": 1, "a": "é", "path": tmp_path})
    assert read_json(tmp_path / "deep" / "a.json") == {"a": "é", "b": 1, "path": str(tmp_path)}
    write_parquet(tmp_path / "a.parquet", FRAME)
    found = read_parquet(tmp_path / "a.parquet", columns=["b", "a"])
    assert found["b"].map(list).tolist() == FRAME["b"].tolist()
    tensors = {"mean": torch.arange(24.0).view(2, 3, 4).transpose(0, 2)}  # not contiguous
    write_tensors(tmp_path / "a.safetensors", tensors, {"task": "antonym"})
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["mean"], tensors["mean"])
    assert names(tmp_path) == ["a.json", "a.parquet", "a.safetensors", "deep"]


def test_a_column_without_values_has_its_type_and_reads_as_it_was_written(tmp_path):
    """Without one, other tools refuse to read it together with files where it has values."""
    objects = {"choices": None, "label": None, "text": None, "scores": None}
    full = pd.DataFrame(
        [{"choices": ["a"], "label": 1, "text": "b", "scores": [0.5], "n": 1.5}], dtype=object
    )
    empty = pd.DataFrame([objects] * 2, dtype=object).assign(n=[float("nan")] * 2)
    types = {"choices": "texts", "label": "integer", "text": "text", "scores": "numbers", "not there": "text"}
    for name, frame in (("full", full.astype({"n": float})), ("empty", empty)):
        write_parquet(tmp_path / f"{name}.parquet", frame, types)
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in ("full", "empty")]
    assert schemas[0].types == schemas[1].types
    found = read_parquet(tmp_path / "empty.parquet")
    pd.testing.assert_frame_equal(found, empty)
    assert found["text"][0] is None
    write_parquet(tmp_path / "plain.parquet", empty)  # as files of before are
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "plain.parquet"), empty)


def test_same_tensors_give_the_same_bytes(tmp_path):
    header = {name: name for name in ("task", "über", 'quote"d', "heads", "over", "prompts")}
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        write_tensors(file, {"theta": torch.arange(7.0), "count": torch.tensor(3)}, header)
        with safe_open(file, "pt") as opened:
            assert header.items() < opened.metadata().items()
        assert torch.equal(read_tensors(file)["theta"], torch.arange(7.0))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_failure_inside_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_path(path) as part:  # noqa: PT012
        part.write_text("half")
        assert part.parent == path.parent  # on the same file system, so that replacing is one step
        assert path.read_text() == "old"
        raise KeyError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_failure_inside_leaves_the_old_folder(tmp_path):
    path = tmp_path / "adapter"
    with atomic_directory(path) as part:
        (part / "weights").write_text("old")
    with pytest.raises(KeyError), atomic_directory(path) as part:  # noqa: PT012
        (part / "weights").write_text("half")
        raise KeyError
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["adapter", "weights"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "adapter"
    for name in ("first", "second"):
        with atomic_directory(path) as part:
            (part / name).write_text(name)
    assert names(tmp_path) == ["adapter", "second"]


def test_files_can_be_read_by_whom_the_user_allows(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "a")
        with atomic_directory(tmp_path / "folder") as part:
            (part / "weights").touch(mode=0o600)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a.txt", tmp_path / "folder" / "weights")]
    assert modes == [0o644, 0o644]
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


def test_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    code = (
        "import os, sys; from anamnesis.core.artifacts import atomic_path\n"
        "with atomic_path(sys.argv[1]) as part:\n    part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    source = os.path.dirname(os.path.dirname(anamnesis.__file__))
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


# ---------------------------------------------------------------- the system refuses


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize(("number", "message"), [
    (errno.ENOSPC, r"no space left to write \S*table.json: free some"),
    (errno.EDQUOT, r"no space left to write \S*table.json: free some"),
    (errno.EROFS, r"table.json cannot be written \(Read-only file system\): make its folder writable"),
    (errno.EACCES, r"table.json cannot be written \(Permission denied\)"),
])  # fmt: skip
def test_refused_write_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, function, number, message):
    path = tmp_path / "table.json"
    write_json(path, {"value": "old"})
    with monkeypatch.context() as patch:
        refuse(patch, os, function, number)
        with pytest.raises(UserError, match=message) as caught:
            write_json(path, {"value": "new"})
    assert "\n" not in str(caught.value)
    assert read_json(path) == {"value": "old"}
    assert names(tmp_path) == ["table.json"]


def test_read_only_folder_is_named(tmp_path, monkeypatch):
    refuse(monkeypatch, tempfile, "mkstemp", errno.EROFS)
    with pytest.raises(UserError, match=r"a\.txt cannot be written"):
        write_text(tmp_path / "a.txt", "text")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_full_disk_in_the_libraries_that_write(tmp_path, monkeypatch, kind):
    """Arrow passes the system's error on; safetensors has a kind of its own that says it in words."""
    path = tmp_path / f"big.{kind}"

    def half(*args, **kwargs):
        next(tmp_path.glob("*.part")).write_bytes(b"half")
        if kind == "parquet":
            raise OSError(errno.ENOSPC, "Error writing bytes to file")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(UserError, match=f"no space left to write .*big.{kind}"):
        write_parquet(path, FRAME) if kind == "parquet" else write_tensors(path, {"a": torch.zeros(3)})
    assert names(tmp_path) == []


@pytest.mark.parametrize("failing", [1, 2])
def test_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, failing):
    path, calls, replace = tmp_path / "adapter", [], os.replace
    with atomic_directory(path) as part:
        (part / "weights").write_text("old")

    def sometimes(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(artifacts.os, "replace", sometimes)
    with pytest.raises(UserError, match="no space left"), atomic_directory(path) as part:
        (part / "weights").write_text("new")
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["adapter", "weights"]


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "a"):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    with pytest.raises(UserError, match=r"^of my own$"), atomic_path(tmp_path / "a"):
        raise UserError("of my own")


# ---------------------------------------------------------------- reading


def write_one(tmp_path, kind: str):
    path = tmp_path / f"file.{kind}"
    if kind == "parquet":
        write_parquet(path, FRAME)
    elif kind == "json":
        write_json(path, {"numbers": list(range(50))})
    else:
        write_tensors(path, {"a": torch.arange(500.0)})
    return path, {"parquet": read_parquet, "json": read_json, "safetensors": read_tensors}[kind]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["parquet", "json", "safetensors"])
def test_file_cut_short_is_named_with_a_remedy(tmp_path, kind, share):
    path, read = write_one(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"file\.{kind} cannot be read .*delete it and run again") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["parquet", "json", "safetensors"])
def test_missing_file_is_named(tmp_path, kind):
    path, read = write_one(tmp_path, kind)
    path.unlink()
    with pytest.raises(UserError, match=rf"file\.{kind} does not exist: run the workflow again"):
        read(path)


@pytest.mark.parametrize("content", ["[1, 2]", "3", "null", "[" * 100_000])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(UserError, match=r"file\.json cannot be read .*delete it and run again"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_a_changed_byte_in_the_data_is_seen(tmp_path, kind):
    path, read = write_one(tmp_path, kind)
    content = bytearray(path.read_bytes())
    content[600 if kind == "parquet" else -5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"file\.{kind} cannot be read"):
        read(path)


def test_tensors_of_other_programs_have_no_digest_and_are_read(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["a"], torch.ones(3))


def test_a_folder_that_is_not_what_was_written_is_seen(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.json", "deep/a.safetensors"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path)
    assert damaged_file(tmp_path) is None
    done = subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path)
    assert done.returncode == 0
    listed = (tmp_path / SUMS).read_text()
    (tmp_path / "b.json").write_text("other")
    assert damaged_file(tmp_path) == "b.json"
    (tmp_path / "b.json").unlink()
    assert damaged_file(tmp_path) == "b.json"
    (tmp_path / "b.json").write_text("b.json")
    for broken in ("", listed.splitlines()[0], listed.replace("  ", " "), "\n" + listed):
        (tmp_path / SUMS).write_text(broken)
        assert damaged_file(tmp_path) == SUMS, broken


def test_missing_columns_are_named_with_those_there_are(tmp_path):
    write_parquet(tmp_path / "a.parquet", FRAME)
    with pytest.raises(UserError, match="lacks the column score: it has a, b, c"):
        read_parquet(tmp_path / "a.parquet", columns=["a", "score"])
    with pytest.raises(UserError, match="lacks the columns score, stage: it has"):
        read_parquet(tmp_path / "a.parquet", columns=["score", "stage"])


# ---------------------------------------------------------------- digests and records


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # the standard's example
    assert digest_file(tmp_path / "a") == known
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})


def test_record_says_what_made_a_result():
    record = provenance(time.time() - 3, task="antonym")
    assert record["task"] == "antonym"
    assert 3 <= record["seconds"] < 60
    assert record["versions"]["torch"] == metadata.version("torch")
    assert 10 < record["peak_memory_mib"] < 10**6
    json.dumps(record)


def test_the_commit_is_that_of_this_code_in_a_hook_of_another_repository(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    expected = provenance(time.time())["git_commit"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert provenance(time.time())["git_commit"] == expected
