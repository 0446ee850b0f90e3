"""Files, folders and configurations of many kinds: read right, or refused in one line with the remedy."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from task_files import ANIMALS, REPOSITORY, animal_rows, by_row, load_user, settings

from anamnesis.config.load import check_files, load_config
from anamnesis.config.named_files import check_named_files
from anamnesis.core import user_files
from anamnesis.core.artifacts import check_writable
from anamnesis.core.errors import UserError
from anamnesis.data.places import find_task_files
from anamnesis.data.preparation import load_task
from anamnesis.evaluation.metrics import METRICS, Answer, score
from anamnesis.models.folders import local_weights

LONG = "a" * 300  # longer than a name may be
TABLE = "input,target\n" + "".join(f"{animal},{animal.upper()}\n" for animal in ANIMALS)
LINES = "".join(json.dumps(row) + "\n" for row in animal_rows())
READ = {
    "a mark of UTF-8 and a separator that is said": (
        "a.csv",
        ("\ufeffsep=;\n" + TABLE.replace(",", ";")).encode(),
    ),
    "lines of old Macs": ("a.csv", TABLE.replace("\n", "\r").encode()),
    "capitals and gzip": ("A.CSV.GZ", gzip.compress(TABLE.encode())),
    "two parts in one gzip": (
        "a.csv.gz",
        gzip.compress(b"input,target\n") + gzip.compress(TABLE[13:].encode()),
    ),
    "UTF-32": ("a.csv", TABLE.encode("utf-32")),
    "lines of Windows": ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
    "UTF-16 without a mark": ("a.jsonl", LINES.encode("utf-16-le")),
    "the numbers of rows that pandas writes": ("a.csv", pd.DataFrame(animal_rows()).to_csv().encode()),
    "blanks of no break around a column": ("a.csv", TABLE.replace("input", "\u00a0input\u00a0").encode()),
}
REFUSED = {
    "gzip in gzip": ("a.csv.gz", gzip.compress(gzip.compress(TABLE.encode())), "no text"),
    "another compression": ("a.csv.bz2", b"x", "'.bz2' is no type of task file; use .parquet"),
    "a table under a name": ("a.json", json.dumps({"data": animal_rows()}).encode(), "the file has data"),
    "columns of pandas": ("a.json", pd.DataFrame(animal_rows()).to_json().encode(), "is not a text"),
    "no number": ("a.json", b'[{"input": "a", "target": NaN}]', "nan is not a text"),
    "capitals in columns": ("a.csv", TABLE.replace("input", "Input").encode(), "the file has Input, target"),
    "half a character as a column": ("a.json", b'[{"\\ud800": 1}]', r"the file has \ud800"),
    "a quote in a cell": ("a.tsv", b'input\ttarget\n"a" b\tc\n', "separator tab); quote cells"),
    "a web page": ("a.csv", b"<!DOCTYPE html>\n<p>404, not found</p>\n", "2 cells under 1 columns"),
}


@pytest.mark.parametrize("name", READ)
def test_files_that_are_read(tmp_path, name):
    file, content = READ[name]
    (tmp_path / file).write_bytes(content)
    rows = by_row(load_user(tmp_path / file))
    assert [(rows[i].input, rows[i].target) for i in sorted(rows)] == [(a, a.upper()) for a in ANIMALS]


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(tmp_path, name):
    file, content, message = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_user(tmp_path / file)
    assert message in str(caught.value)


def test_words_that_other_tools_take_for_nothing_are_texts(tmp_path):
    words = ["NA", "None", "null", "nan", "", "true"]
    (tmp_path / "a.csv").write_text(
        "input,target\n" + "".join(f"{i},{w or 'x'}\n" for i, w in enumerate(words))
    )
    assert {row.target for row in by_row(load_user(tmp_path / "a.csv")).values()} == {"x", *words} - {""}


# ---------------------------------------------------------------- paths


def a_folder(path):
    path.mkdir()


def a_circle(path):
    path.symlink_to(path.name)


PLACES = {
    "a folder, as Spark writes": (a_folder, "it is a folder"),
    "a pipe": (os.mkfifo, "it is no file"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "no such file"),
    "links in a circle": (a_circle, "it cannot be reached"),
}


def with_task(path):
    task = {"path": str(path), "instruction": "Do it."}
    return {"data": {"tasks": {"mine": task}}, "suite": {"held_out": ["mine"]}}


def checked(*sources):
    config = load_config([REPOSITORY / "config.yaml", *sources])
    check_writable(config.results)
    check_named_files(config)


@pytest.mark.parametrize("name", PLACES)
def test_a_path_without_a_file_says_what_is_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, message = PLACES[name]
    make(tmp_path / "mine.parquet")
    with pytest.raises(UserError, match=f"mine.parquet: {message}.*; give the path of a file"):
        load_user(tmp_path / "mine.parquet")
    with pytest.raises(UserError, match=f"data.tasks.mine.path = .*: {message}"):
        checked(with_task(tmp_path / "mine.parquet"))
    with pytest.raises(UserError, match=message):
        load_task("mine", settings(root=tmp_path), 0)


@pytest.mark.parametrize(
    "config",
    [
        {"results": LONG},
        with_task(f"{LONG}.csv"),
        {"data": {"root": LONG}},
        {"model": {"source": f"path:{LONG}", "sha256": None, "name": "long"}},
        {"training": {"methods": ["jfa"]}, "methods": {"jfa": {"encoder": f"path:{LONG}"}}},
    ],
)
def test_names_that_are_too_long_are_refused(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="aaaa"):
        checked(config)


@pytest.mark.parametrize("below", ["", "closed"])
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, below):
    """Its tasks would be those that are built in."""
    (tmp_path / below).mkdir(exist_ok=True)
    allowed = os.access
    closed = tmp_path / below  # the owner of all files, who runs tests in containers, may read any folder
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(closed) and allowed(path, mode))
    with pytest.raises(UserError, match=r"data\.root = .*it may not be read, change its permissions"):
        find_task_files(str(tmp_path))
    with pytest.raises(UserError, match=r"model\.source is 'path:.*it may not be read"):
        local_weights(str(closed))


def test_a_file_in_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(user_files.os, "stat", refuse)
    assert user_files.no_file_at(tmp_path / "a.csv") == "it cannot be reached (Permission denied)"


# ---------------------------------------------------------------- configurations

YAML = {
    "a section that stands twice": (
        b"data: {root: x}\ndata: {root: null}\n",
        "the key 'data' stands 2 times in one section, write it once",
    ),
    "a key that stands twice": (b"data:\n  root: null\n  root: x\n", "the key 'root' stands 2 times"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), "not valid YAML"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", "expected a single document"),
    "code": (b"results: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "tabs": (b"data:\n\troot: null\n", "cannot start any token"),
    "names that are numbers": (b"data: {tasks: {1: {path: a.csv, instruction: x}}}\n", "put it in quotes"),
    "a list that holds itself": (b"suite:\n  orders: &a [*a]\n", "must be text"),
}


@pytest.mark.parametrize("name", YAML)
def test_configurations_that_are_refused(tmp_path, name):
    content, message = YAML[name]
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        checked(tmp_path / "own.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key"), [("model", "source"), ("data", "root"), ("prompts", "input_label")]
)
def test_half_a_character_is_refused_in_every_text(section, key):
    for value in ("path:a\ud800", "\udcff"):
        with pytest.raises(UserError, match=f"{section}.{key}"):
            checked({section: {key: value}})
    with pytest.raises(UserError, match=r"results: .* must be text"):
        checked({"results": "a\ud800"})


def test_what_yaml_merges_may_be_given_again(tmp_path):
    (tmp_path / "own.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: {x: 3}\n")
    check_files([tmp_path / "own.yaml"])


@pytest.mark.parametrize(
    "call",
    [
        [
            "-c",
            "import sys; from anamnesis.config.load import load_config; load_config(sys.argv[1])",
            "config.yaml",
        ],
        ["-m", "anamnesis.commands.estimate", "--help"],
        ["-m", "anamnesis.commands.export", "--help"],
    ],
)
def test_python_may_leave_out_docstrings(call):
    """As images for containers ask it to, in PYTHONOPTIMIZE."""
    surrounding = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow"), "PYTHONOPTIMIZE": "2"}
    done = subprocess.run(
        [sys.executable, *call], cwd=REPOSITORY, env=surrounding, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_jobs_need_docstrings_and_say_so():
    code = "from anamnesis.core.environment import check_python; check_python()"
    surrounding = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    for options, message in (("-O", ""), ("-OO", "unset PYTHONOPTIMIZE, or set it to 1")):
        done = subprocess.run(
            [sys.executable, options, "-c", code], env=surrounding, capture_output=True, text=True
        )
        assert message in done.stderr
        assert bool(done.returncode) == bool(message)


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize(
    "text",
    [
        "བོད་སྐད།",
        "한국어 문장",
        "日本語です",
        "ไทยภาษา",
        "👍🏽👨‍👩‍👧",
        "🇩🇪",
        "ꆈꌠꉙ",
        "İstanbul",
        "½",
        "≠",
        "。。",
        "ᏣᎳᎩ",
        "سلام‌ها",
    ],
)
def test_equal_texts_of_any_script_are_right(text):
    whole = {name for name in METRICS if name not in ("number_after_mark", "sari", "sari_trace")}
    assert {name: score(name, Answer(text, text)) for name in whole} == pytest.approx(
        dict.fromkeys(whole, 1.0)
    )


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("1e5", "100000", 1),
        ("2e5", "1e5", 0),  # by their last digits they would be equal
        ("1.5E-3", "0.0015", 1),
        ("7e-3", "2e-3", 0),
        ("1e5 m", "1e5", 1),
        ("1e5f", "5", 1),  # no number of that form
        ("１２", "12", 1),
        ("٣", "3", 1),
        ("9" * 400, "9" * 400, 1),  # beyond floats, as the next
        ("8" * 400, "9" * 400, 0),
        ("1/" + "1" * 5000, "3", 0),
        ("3", "1/" + "1" * 5000, 0),
    ],
)
def test_numbers_as_people_write_them(text, target, right):
    assert score("number", Answer(text, target)) == right
