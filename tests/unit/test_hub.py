"""Data sets from a hub, through the hub library and a loopback server that speaks its file API."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from hub_rows import ROWS, filled
from task_files import REPOSITORY, settings

from anamnesis.core.errors import UserError
from anamnesis.data.catalogue import catalogue, look_up
from anamnesis.data.preparation import prepare
from hub_server import TOKEN, Hub, Repository, cut_short, empty_cache, serving

ARC = "datasets/allenai/ai2_arc"


def file_of(pattern: str, rows: list[dict]) -> tuple[str, bytes]:
    """(name, content) of a file that matches the pattern."""
    if pattern.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        return pattern.replace("*/", "train/").replace("*", "x_train"), text.encode()
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer)
    return pattern.replace("*", "00000-of-00001"), buffer.getvalue()


def repository(name: str, count: int = 4, **settings) -> tuple[str, Repository]:
    """The repository of a set with ``count`` rows in every split."""
    source = look_up(name).hub
    files = dict(
        file_of(pattern, [filled(ROWS[name][0], f"{split} {i}") for i in range(count)])
        for split, pattern in source.files.items()
    )
    commit = {} if source.revision is None else {"commit": source.revision}
    return f"datasets/{source.repository}", Repository(files, **commit, **settings)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    with empty_cache(tmp_path, monkeypatch) as hub:
        yield hub


def load(name, pins=None):
    return prepare(name, {**settings(), "sources": ["hub"]}, 0, pins)


@pytest.mark.parametrize("name", ROWS)
def test_every_column_mapping(name, cache):
    cache.repositories = dict([repository(name)])
    made = load(name)
    row = made.frame[made.frame.split == "test"].iloc[0]
    _, text, target, options, label = ROWS[name]
    pattern = re.escape(text).replace(re.escape("{}"), r"\w* ?\d")
    assert re.fullmatch(pattern, row.input), row.input
    assert (row.target, None if pd.isna(row.label) else row.label) == (target, label)
    assert (len(row.choices) if options else row.choices) == options
    assert made.commit == look_up(name).hub.revision or name == "task618"
    assert row.instruction == "Sum up." if name == "task618" else row.instruction is not None


def test_every_kind_of_hub_set_has_a_row_to_try():
    tried = {(look_up(name).hub.repository, look_up(name).hub.columns) for name in ROWS}
    groups = {"mmlu_stem", "mmlu_humanities", "mmlu_other"}  # mmlu_social with other subjects
    sets = [entry for entry in catalogue().values() if entry.hub and entry.name not in groups]
    assert not [e.name for e in sets if (e.hub.repository, e.hub.columns) not in tried]


def test_what_is_in_the_cache_is_not_asked_for_again(cache):
    cache.repositories = dict([repository("arc_challenge")])
    first = load("arc_challenge")
    assert all("/tree/" in path or "/resolve/" in path or "/api/" in path for _, path, _ in cache.requests)
    cache.requests.clear()
    cache.repositories.clear()
    pd.testing.assert_frame_equal(load("arc_challenge").frame, first.frame)
    assert cache.requests == []


def test_the_first_use_pins_a_commit_that_the_catalogue_does_not(cache, tmp_path):
    name, repo = repository("task618")
    cache.repositories = {name: repo}
    pins = tmp_path / "results" / "hub_revisions.json"
    assert load("task618", pins).commit == repo.commit
    assert json.loads(pins.read_text()) == {"Muennighoff/natural-instructions": repo.commit}
    cache.repositories = {name: Repository(repo.files, commit="f" * 40)}  # the repository has moved on
    assert load("task618", pins).commit == repo.commit


def test_damaged_pins_are_refused(cache, tmp_path):
    (tmp_path / "pins.json").write_text('{"Muennighoff/natural-instructions": "main"}')
    with pytest.raises(UserError, match=r"pins\.json: must map repositories to commits"):
        load("task618", tmp_path / "pins.json")


def test_a_download_cut_short_is_resumed_where_it_stopped(cache, monkeypatch):
    cache.repositories = dict([repository("gsm8k", count=1000)])
    cut_short(cache, monkeypatch, at=3000, cuts=1, chunk=1000)
    assert len(load("gsm8k").frame) > 200
    assert [span for _, _, span in cache.requests if span] == ["bytes=3000-"]


def test_a_download_that_never_ends_fails_in_one_line_and_may_be_tried_again(cache, monkeypatch):
    cache.repositories = dict([repository("gsm8k", count=1000)])
    cut_short(cache, monkeypatch, at=3000, cuts=10**6, chunk=10**6)
    with pytest.raises(UserError, match=r"hf:openai/gsm8k@740312add88f\w+ could not be fetched .*run again"):
        load("gsm8k")
    cache.cuts = 0
    assert len(load("gsm8k").frame) > 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda repo: {}, "no such repository, or a private one; check its name"),
        (lambda repo: {ARC: Repository(repo.files, commit="f" * 40)}, "no such revision"),
        (lambda repo: {ARC: Repository(repo.files, repo.commit, gated=True)}, "is gated: accept its terms"),
        (lambda repo: {ARC: Repository({"README.md": b"x"}, repo.commit)}, r"no file matches ARC-Challenge/"),
    ],
)
def test_what_a_hub_does_not_give_is_said_in_one_line(cache, change, message):
    cache.repositories = change(repository("arc_challenge")[1])
    with pytest.raises(UserError, match=message) as found:
        load("arc_challenge")
    assert "hf:allenai/ai2_arc@210d026f" in str(found.value)


def test_a_token_opens_a_gated_set(cache, monkeypatch):
    name, repo = repository("arc_challenge", gated=True)
    cache.repositories = {name: repo}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(load("arc_challenge").frame) == 12


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "Q {}", "choices": {"text": ["a", "b"], "label": ["A", "B"]}},
            r"column 'answerKey': is not there",
        ),
        ({"question": 5, "choices": 7, "answerKey": "A"}, r"row 1, column 'choices.text': is not there"),
        (
            {"question": "Q {}", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"},
            r"row 1, column 'answerKey': 'E' is out of range; allowed are 0 to 1, or A, B",
        ),
    ],
)
def test_a_layout_that_has_changed_is_named_by_file_row_and_column(cache, row, message):
    entry = look_up("arc_challenge").hub
    files = dict(file_of(p, [filled(row, str(i)) for i in range(3)]) for p in entry.files.values())
    cache.repositories = {ARC: Repository(files, entry.revision)}
    with pytest.raises(UserError, match=message) as found:
        load("arc_challenge")
    assert "hf:allenai/ai2_arc@210d026faf99/ARC-Challenge/train-00000-of-00001.parquet" in str(found.value)


JOB = """
import runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
data = {"root": None, "tasks": {}, "sources": ["hub"], "train_examples": 9, "validation_examples": 9,
        "test_examples": 9}
try:
    print(main("arc_challenge", data, 0, sys.argv[2])["commit"])
except ValueError as error:
    print(error)
"""


def test_the_variables_of_the_hub_library_are_honoured(tmp_path):
    """In processes of their own, as the library reads them once: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE."""
    script = REPOSITORY / "workflow" / "scripts" / "prepare_task.py"
    command = [sys.executable, "-c", JOB, str(script), str(tmp_path / "out.parquet")]
    with serving(Hub(dict([repository("arc_challenge")]))) as hub:

        def job(**more):
            kept = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
            path = str(REPOSITORY / "workflow")
            env = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "PYTHONPATH": path} | more
            return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout.strip()

        assert job(HF_HUB_OFFLINE="1").startswith("hf:allenai/ai2_arc@210d026f")
        assert hub.requests == []
        assert job() == look_up("arc_challenge").hub.revision
        hub.requests.clear()
        assert job(HF_HUB_OFFLINE="1") == look_up("arc_challenge").hub.revision
        assert hub.requests == []
