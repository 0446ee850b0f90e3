"""Notes of what jobs read and wrote: damage is seen, and times follow contents."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from anamnesis.core.integrity import LONG_AGO, TIMESTAMP, check_results, note_file, states_read, write_note

DAY = 24 * 3600


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """Data, a folder made from them and a table made from that, an hour ago and one second after another."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/adapter")
    folder.mkdir(parents=True)
    Path("data.csv").write_text("a,b\n")
    date("data.csv", -3602)
    (folder / "weights").write_text("0123456789")
    Path("results/table.csv").write_text("x,1\ny,2\n")
    write_note(states_read(["data.csv"]), [folder])
    write_note(states_read([folder]), ["results/table.csv"])
    (folder / TIMESTAMP).touch()
    date(folder / TIMESTAMP, -3601)
    date("results/table.csv", -3600)
    return Path("results")


def date(path: str | Path, seconds: float) -> None:
    """``seconds`` from now."""
    os.utime(path, (time.time() + seconds,) * 2)


def times() -> list[float]:
    """Of the data, the folder as Snakemake sees it, and the table."""
    paths = ("data.csv", f"results/adapter/{TIMESTAMP}", "results/table.csv")
    return [os.stat(path).st_mtime for path in paths]


def test_what_is_as_it_was_written_stays_as_it_is(results):
    before = times()
    assert check_results(results) == []
    assert times() == before


@pytest.mark.parametrize(("content", "fault"), [
    ("x,1\n", r"it has 4 bytes instead of 8"),
    ("", r"it has 0 bytes instead of 8"),
    ("\0" * 8, r"it has another content"),
])  # fmt: skip
def test_damaged_file_is_set_aside_and_named(results, content, fault):
    check_results(results)
    (results / "table.csv").write_text(content)
    (line,) = check_results(results)
    assert line.startswith(
        f"results/table.csv is not what was written ({fault}): it is now table.csv.damaged"
    )
    assert line.endswith("or by the same command with this path behind it")
    assert not (results / "table.csv").exists()
    assert (results / "table.csv.damaged").read_text() == content
    assert check_results(results) == []


def test_damaged_folder_is_set_aside_as_a_whole(results):
    for file, content, fault in (("weights", "012", "weights has 3 bytes instead of 10"),
                                 ("weights", None, "weights is missing")):  # fmt: skip
        path = results / "adapter" / file
        path.unlink() if content is None else path.write_text(content)
        (line,) = check_results(results)
        assert f"results/adapter is not what was written ({fault})" in line
        assert not (results / "adapter").exists()
        os.rename(results / "adapter.damaged", results / "adapter")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"read": {}}', '{"read": {}, "written": {"a": [1]}}'])
def test_result_with_a_damaged_note_is_not_trusted(results, content):
    note_file([results / "table.csv"]).write_text(content)
    (line,) = check_results(results)
    assert "results/table.csv is not what was written (its note .table.csv.made.json is damaged)" in line
    assert not (results / "table.csv").exists()


def test_what_is_missing_or_has_no_note_is_left_to_snakemake(results):
    (results / "table.csv").unlink()
    (results / "other.csv").write_text("of an earlier version")
    assert check_results(results) == []
    assert (results / "other.csv").exists()


def test_note_has_no_say_over_files_elsewhere(results, tmp_path):
    for path in (tmp_path / "data.csv", "results/../data.csv"):
        forged = {"read": {}, "written": {str(path): {".": [1, "", 1]}}}
        (results / ".forged.made.json").write_text(json.dumps(forged))
        assert check_results(results) == []
        assert Path("data.csv").exists()


def test_contents_are_read_again_only_where_size_or_time_differ(results, monkeypatch):
    check_results(results)
    monkeypatch.setattr("anamnesis.core.integrity.digest_file", lambda path: pytest.fail(f"{path} was read"))
    assert check_results(results) == []
    (states,) = states_read(
        [results / "adapter"]
    ).values()  # weights are digested once for all that read them
    assert states["weights"][0] == 10


# ---------------------------------------------------------------- the clock


def test_results_from_the_future_are_dated_now_in_their_order(results):
    for path in (results / "adapter" / TIMESTAMP, results / "table.csv"):
        date(path, DAY)
    assert check_results(results) == []
    _, adapter, table = times()
    assert adapter <= table <= time.time()


def test_what_is_newer_only_by_the_clock_makes_nothing_stale(results):
    date(results / "table.csv", -DAY)
    date("data.csv", 0)
    check_results(results)
    data, adapter, table = times()
    assert data <= adapter <= table


def test_what_was_made_from_another_content_is_stale_whatever_the_clock_says(results):
    Path("data.csv").write_text("c,d\n")
    date("data.csv", -DAY)
    assert check_results(results) == []
    data, adapter, table = times()
    assert adapter == LONG_AGO / 1e9 < data
    assert table > adapter  # Snakemake makes it again when it has made the folder

    Path("data.csv").write_text("a,b\n")  # as it was
    check_results(results)
    data, adapter, table = times()
    assert data <= adapter <= table
