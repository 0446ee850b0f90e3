"""Results that are no longer what was written, or whose dates say something else."""

from __future__ import annotations

import os
import time

from runs import MODEL, SUITE, SWEPT, assert_same_results, differences, remove_set_aside, stage

MEAN = MODEL / f"vectors/{SWEPT}/mean_activations.safetensors"
ADAPTER = stage("inclora-ivg", 2) / "adapter"
FIGURE, TABLE, REPORT = SUITE / "figures/summary.png", SUITE / "table1.csv", SUITE / "report.html"


def cut(file) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_files_cut_short_are_named_and_made_again(whole, tmp_path):
    run = whole.copy(tmp_path / "run")
    for file in (MEAN, ADAPTER / "adapter_config.json", FIGURE, TABLE, REPORT):
        cut(run.folder / file)
    done = run.run()
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if "is not what was written" in line]
    assert {line.split()[0] for line in lines} == set(map(str, (MEAN, ADAPTER, FIGURE, TABLE, REPORT)))
    assert done.stdout.count("adapter_config.json has ") == 1

    # nothing that is shown was missing them; each line says how to have them back
    assert set(differences(run, whole)) >= {str(MEAN), str(ADAPTER / "adapter_config.json")}
    for path in (MEAN, ADAPTER):  # together, the adapter would wait for the mean
        done = run.run(path)
        assert done.returncode == 0, done.stdout
        assert "1 of 1 steps" in done.stdout
    remove_set_aside(run)
    assert "write_report" in run.run().stdout, "it shows what the new jobs took"
    assert "Nothing to be done" in run.run().stdout
    assert_same_results(run, whole)
    assert differences(run, whole) == []


def test_dates_alone_make_nothing_stale(whole, tmp_path):
    """A clock that was a day ahead, then set back while results were made."""
    run = whole.copy(tmp_path / "run")
    for number, file in enumerate(sorted((run.folder / "results").rglob("*"))):
        os.utime(file, (time.time() + (24 * 3600 if number % 2 else -number),) * 2)
    assert "Nothing to be done" in run.run().stdout


def test_data_that_changed_under_an_older_date_are_read_again(fresh):
    file, made = fresh.folder / "pairs.csv", "results/tasks/next_letter.parquet"
    file.write_text("input,target,split\na,b,train\nc,d,validation\ne,f,test\n")
    task = {"path": str(file), "instruction": "Write the next letter."}
    run = fresh.with_config({"data": {"tasks": {"next_letter": task}}})
    assert run.run(made).returncode == 0
    before = (run.folder / made).read_bytes()
    file.write_text("input,target,split\na,B,train\nc,d,validation\ne,f,test\n")
    os.utime(file, (time.time() - 24 * 3600,) * 2)
    assert run.run(made).returncode == 0
    assert (run.folder / made).read_bytes() != before

    os.utime(file, (time.time() + 24 * 3600,) * 2)
    done = run.run(made)
    assert done.returncode != 0
    assert f"{file} is dated " in done.stdout
    assert f"touch '{file}'" in done.stdout
    os.utime(file)
    assert "Nothing to be done" in run.run(made).stdout
