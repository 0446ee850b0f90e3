"""Paths of the configuration: ~ and variables are written out, whatever the key."""

import json

import pytest

from anamnesis.config import load_config
from anamnesis.config.load import config_section
from anamnesis.core.errors import UserError
from runs import ROOT


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH_DISK", str(tmp_path / "big"))
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "d").mkdir()
    return tmp_path


def task(path):
    return {"data": {"tasks": {"mine": {"path": path, "instruction": "Do it."}}}}


KEYS = {
    "results": lambda path: {"results": path},
    "data.root": lambda path: {"data": {"root": path}},
    "data.tasks.mine.path": lambda path: task(f"{path}.CSV"),
    "statistics.pool": lambda path: {"statistics": {"pool": [path]}},
    "model.source": lambda path: {"model": {"source": f"path:{path}", "sha256": None}},
    "methods.jfa.encoder": lambda path: {"methods": {"jfa": {"encoder": f"path:{path}"}}},
}


def read(key, path):
    (value,) = _leaves(config_section(load_config([ROOT / "config.yaml", KEYS[key](path)]), key))
    return value.removeprefix("path:").removesuffix(".CSV")


def _leaves(node):
    if isinstance(node, str):
        return [node]
    return [leaf for item in (node.values() if isinstance(node, dict) else node) for leaf in _leaves(item)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/d", "{home}/d"),
        ("$HOME/d", "{home}/d"),
        ("${HOME}/d", "{home}/d"),
        ("$SCRATCH_DISK/../d", "{home}/big/../d"),
    ],
)
def test_home_and_variables_are_written_out(home, key, written, meant):
    (home / "big").mkdir()
    assert read(key, written) == meant.format(home=home)


@pytest.mark.parametrize("key", [key for key in KEYS if key != "data.root"])
def test_what_the_shell_would_leave_stays(home, key):
    assert read(key, "a~b/cost$") == "a~b/cost$"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("$NOT_SET/d", "the environment variable NOT_SET is not set; set it, or write the path out"),
        ("${NOT_SET}/d", "the environment variable NOT_SET is not set; set it, or write the path out"),
        ("~nobody-of-that-name/d", "there is no user nobody-of-that-name; for a folder here write ./~"),
    ],
)
def test_what_cannot_be_written_out_is_refused_in_one_line(home, key, written, message):
    with pytest.raises(UserError, match=rf"^{key.replace('.', '[.]')}(\[0\])? = .*{message}") as caught:
        read(key, written)
    assert ";" not in str(caught.value).replace(message, "")


def test_the_schema_allows_what_the_configuration_does():
    schema = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    pattern = schema["properties"]["results"]
    for path in ("results", "~/out", "$HOME/out", "${HOME}/out"):
        jsonschema.validate(path, pattern)
    for path in ("{a}", "a\nb", "$HOME}/out"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(path, pattern)
