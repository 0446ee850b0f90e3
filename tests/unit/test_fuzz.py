"""Hostile configurations: each is valid as a whole or refused in one line that names the key; never another
error, and nothing that is known to be wrong is accepted. The inputs are the same in every run.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
from pathlib import Path

import pytest
import yaml
from fuzzing import damage, outcome, refused, tries
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel
from task_files import REPOSITORY

from anamnesis.commands.check import main
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import BUILTIN

TASK = {
    "path": "mine.csv",
    "sha256": None,
    "instruction": "Say it.",
    "knowledge": "{input} is",
    "max_new_tokens": 4,
}
VARIANT = {
    "of": "jfa-ivg",
    "training": {"lora": {"rank": 2}},
    "guidance": {"heads": 3},
    "settings": {"pool": 9},
}
HOSTILE = (
    "..", ".", "a/b", "../x", "/etc", "$(id)", "`id`", "a;b", "a b", "a\nb", "a\n", "a'b", 'a"b', "{task}",
    "a{b}", "{{x}}", "-rf", "~", "*", "a\x00b", "\x1b[31m", "é", "x" * 101, "", ".hidden", "a.json", "a|b",
    "report.html", "a:b", "a\\b", "\u202eabc", "\ud800", "a,b", "%s", "a&b", "#", "table1.csv", "<b>",
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, 2**31, 10**30, -(10**400)]) | st.just(5000).map(lambda digits: 10**digits),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(HOSTILE),
        st.binary(max_size=5),
        st.dates(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def whole() -> dict:
    """Every key of the configuration, with a task of the user's own and a variant."""
    content = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    content["data"]["tasks"] = {"mine": copy.deepcopy(TASK)}
    content["variants"] = {"own": copy.deepcopy(VARIANT)}
    content["vectors"] |= {"tasks": ["antonym"], "head_list": None}
    content["interventions"]["layers"] = [0, 1]
    return content


WHOLE = whole()


def places(node: object, path: tuple = ()) -> list[tuple]:
    """The place of every section, list and value below ``node``."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [place for key, value in inner for place in places(value, (*path, key))]


PLACES = places(WHOLE)


def at(content: dict, place: tuple) -> object:
    for key in place:
        content = content[key]
    return content


def put(place: tuple, value: object) -> dict:
    """The whole configuration with one value replaced."""
    content = copy.deepcopy(WHOLE)
    at(content, place[:-1])[place[-1]] = value
    return content


def load(content: dict):
    return load_config(content, BUILTIN)


def plain(value: object) -> object:
    return json.loads(json.dumps(value))


def check_accepted(config: Config) -> None:
    """What was accepted is complete, plain JSON, without NaN, and is accepted again as it is."""
    dumped = config.model_dump(mode="json")
    assert load(json.loads(json.dumps(dumped, allow_nan=False))) == config


def test_the_whole_configuration_is_valid():
    check_accepted(load(WHOLE))
    assert len(PLACES) > 150


@tries(400)
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_anywhere_is_refused_by_its_key_or_kept(place, value):
    found = outcome(load, put(place, value))
    key = next(str(part) for part in reversed(place) if isinstance(part, str))
    if isinstance(found, UserError):
        assert key in str(found)
        return
    check_accepted(found)
    kept = found
    for part in place:
        kept = kept[part] if isinstance(kept, dict | list | tuple) else getattr(kept, part)
    if isinstance(kept, BaseModel):
        return
    assert isinstance(value, str) or plain(kept) == plain(value), (place, value)


def wrong_values(node: dict, schema: dict) -> list:
    """Values that a key with this part of the JSON schema must not have."""
    options = [
        schema["$defs"][o["$ref"].rsplit("/", 1)[-1]] if "$ref" in o else o for o in node.get("anyOf", [node])
    ]
    kinds = {kind for o in options for kind in ([o["type"]] if "type" in o else ["enum"])}
    wrong: list = [] if "null" in kinds else [None]
    wrong += [] if kinds & {"array"} else [[1], ["x"]]
    wrong += [] if "object" in kinds else [{}, {"a": 1}]
    wrong += [] if kinds & {"string", "enum"} else ["x", ""]
    wrong += [] if kinds & {"integer", "number"} else [3, 0.5, -1]
    wrong += [] if "boolean" in kinds else [True, False]
    for option in options:
        if option.get("type") in ("integer", "number"):
            wrong += [math.nan, math.inf, -math.inf, -(10**30), "1_0x"]
            wrong += [option["minimum"] - 1] if "minimum" in option else []
            wrong += [option["exclusiveMinimum"]] if "exclusiveMinimum" in option else []
            wrong += [option["maximum"] + 1] if "maximum" in option else []
            wrong += [option["exclusiveMaximum"]] if "exclusiveMaximum" in option else []
            wrong += [1.5, 10**30] if option["type"] == "integer" else []
        if "enum" in option or option.get("minLength"):
            wrong += [""]
    return [value for value in wrong if not _fits_another(value, kinds)]


def _fits_another(value: object, kinds: set) -> bool:
    return isinstance(value, list) and "array" in kinds


def keys_with_wrong_values() -> list[tuple[tuple, object]]:
    schema = Config.model_json_schema()

    def walk(node: dict, path: tuple):
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
        for key, inner in node.get("properties", {}).items():
            target = inner.get("$ref") and schema["$defs"][inner["$ref"].rsplit("/", 1)[-1]]
            place = (*path, key)
            if target and "properties" in target:
                yield from walk(inner, place)
                yield from ((place, value) for value in (3, "x", [], None))
            else:
                yield from ((place, value) for value in wrong_values(inner, schema))

    found = list(walk(schema, ()))
    return [pair for pair in found if pair[0][0] != "variants" and pair[0] != ("data", "tasks")]


def test_every_value_known_to_be_wrong_is_refused_by_its_key():
    pairs = keys_with_wrong_values()
    assert len(pairs) > 1000
    for place, value in pairs:
        message = refused(load, put(place, value))
        assert ".".join(place) in message, (place, value, message)


SECTIONS = [(), *(place for place in PLACES if isinstance(at(WHOLE, place), dict))]
NAMED = {("data", "tasks"), ("variants",)}  # their keys are the user's own


@tries(150)
@given(st.sampled_from(SECTIONS), st.text(max_size=12) | st.sampled_from(HOSTILE) | st.integers(), VALUES)
def test_unknown_keys_are_refused(section, key, value):
    content = copy.deepcopy(WHOLE)
    known = at(content, section)
    assume(key not in known)
    assume(not (section in NAMED and isinstance(key, str) and key.isidentifier()))
    assume(not (section and section[0] == "variants" and len(section) > 1 and key in Config.model_fields))
    # the sections of a variant may hold every key of the section they are about
    about = {"training": Config.model_fields["training"], "guidance": Config.model_fields["guidance"]}
    if section[-1:] and section[-1] in about and section[0] == "variants":
        assume(key not in about[section[-1]].annotation.model_fields)
    known[key] = value
    message = refused(load, content)
    assert "unknown key" in message or "must be text" in message or "must be letters" in message, message


@tries(100)
@given(st.sampled_from(PLACES))
def test_missing_keys_take_their_default_or_are_named(place):
    content = copy.deepcopy(WHOLE)
    assume(isinstance(place[-1], str))
    del at(content, place[:-1])[place[-1]]
    found = outcome(load, content)
    if isinstance(found, UserError):
        assert str(place[-1]) in str(found) or "mine" in str(found) or "own" in str(found)
    else:
        check_accepted(found)


NAMES = (
    ("model", "name"), ("suite", "name"), ("suite", "orders", 0, 0), ("suite", "held_out", 0),
    ("vectors", "tasks", 0), ("interventions", "sets", 0), ("training", "methods", 0),
    ("variants", "own", "of"),
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_a_path_or_a_shell_could_misread_are_refused(name):
    for place in NAMES:
        key = next(part for part in reversed(place) if isinstance(part, str))
        assert key in refused(load, put(place, name)), (place, name)
    for section, value in ((("data", "tasks"), TASK), (("variants",), VARIANT)):
        content = copy.deepcopy(WHOLE)
        at(content, section)[name] = value
        assert section[-1] in refused(load, content), (section, name)


@pytest.mark.parametrize("path", ["a{b}", "{task}/x", "a\nb", "a\x00b", "", "\x1b[2J"])
def test_paths_that_snakemake_would_misread_are_refused(path):
    for place in (("results",), ("data", "root"), ("data", "tasks", "mine", "path")):
        assert place[-1] in refused(load, put(place, path))


TEXT = (REPOSITORY / "workflow" / "experiments" / "smoke.yaml").read_bytes()
ADDED = (
    b"a: " + b"[" * 1000, b"a: " + b"{a: " * 1000, b"a: " + b"9" * 5000, b"a: 2001-99-99", b"a: &a [*a]",
    b"a: \x00", b"\xff\xfe", b"? [1]\n: 2", b"a: !!python/name:os.system", b"<<: 1", b"a: !!int x", b"a: *b",
    b"[]", b"!!set", b"__use_yte__: true", b"evaluation: {forms: &a [*a]}",
    b"variants: &a {x: {of: jfa, training: *a}}",
    b"".join(  # short to write, endless to print
        b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1) if i else b"x"] * 10)) for i in range(25)
    ),
)  # fmt: skip


@tries(80)
@given(damage(TEXT) | st.binary(max_size=60))
def test_any_bytes_as_a_configuration_file(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(content)
        assert isinstance(outcome(load_config, path), UserError | Config)


@pytest.mark.parametrize("added", ADDED, ids=range(len(ADDED)))
def test_what_yaml_can_do_beyond_plain_values_is_refused(added, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(TEXT + b"\n" + added)
    refused(load_config, path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"lora": {"rank": 0}}}, "variants.own.training.lora.rank = 0: must be an integer >= 1"),
        (
            {"settings": {"pol": 8}},
            "unknown key variants.own.settings.pol = 8: did you mean variants.own.settings.pool?",
        ),
        ({"guidance": {1: 2}}, "variants.own.guidance[1] = 1: a name must be text, put it in quotes"),
        ({"guidance": {"kl": {1: 2}}}, "variants.own.guidance.kl = 1: a name must be text"),
    ],
)
def test_a_variant_is_checked_as_the_sections_it_changes(changes, expected):
    assert refused(load, put(("variants", "own"), VARIANT | changes)).startswith(expected)


def test_what_refers_to_itself_or_has_no_end_is_shown_in_part():
    endless: list = []
    endless.append(endless)
    assert "training.seeds" in refused(load, put(("training", "seeds"), endless))
    many = ["x"]
    for _ in range(40):
        many = [many] * 10
    assert "training.seeds" in refused(load, put(("training", "seeds"), many))


def test_files_can_be_checked_without_running_anything_in_them(tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_bytes(TEXT)
    assert main([str(path)]) == 0
    path.write_bytes(b"__use_yte__: true\n" + TEXT)
    assert main([str(path)]) == 1
    assert capsys.readouterr().err.startswith("configuration: unknown key __use_yte__ = True: ")
    assert main([]) == 0  # the default experiment
