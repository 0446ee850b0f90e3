"""Configuration files that cannot be read, any input at all, and the sections that rules are given."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_config import KNOWN, change, smallest

from anamnesis.config import config_section, load_config
from anamnesis.core.errors import UserError


@pytest.fixture
def mapping() -> dict:
    return smallest()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 2001-99-99", "is not valid YAML"),
        ("a: " + "[" * 1000, "nested too deeply"),
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2", "must hold 'key: value' lines"),
        (None, "No such file"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, expected):
    path = tmp_path / "broken.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        load_config(path, KNOWN)
    assert expected in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    section=st.sampled_from(["model", "data", "vectors", "training", "guidance", "evaluation", "statistics"]),
    value=st.one_of(
        st.none(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text())
    ),
    key=st.text(max_size=12),
)
def test_no_input_escapes_as_another_error(section, value, key):
    base = {
        "suite": {"name": "t", "orders": [["plural"]], "held_out": ["antonym"]},
        "interventions": {"sets": []},
    }
    for content in ({section: value}, {section: {key: value}}, {section: {"tasks": {key: value}}}):
        message = ""
        try:
            load_config(base | content, KNOWN)
        except UserError as error:
            message = str(error)
        assert len(message.splitlines()) <= 1


# Sections for rules


def test_sections_are_plain_and_hold_only_what_was_named(mapping):
    named = ("seed", "training.lora.rank", "training.seeds", "sweep")
    section = config_section(load_config(mapping, KNOWN), *named)
    training = {"lora": {"rank": 8}, "seeds": [0, 1, 2]}
    assert section == {"seed": 0, "training": training, "sweep": {"shards": 1}}
    assert json.loads(json.dumps(section)) == section


def test_sections_do_not_change_with_other_keys(mapping):
    before = config_section(load_config(mapping, KNOWN), "vectors")
    after = config_section(load_config(change(mapping, "training.epochs", 9), KNOWN), "vectors")
    assert before == after


@pytest.mark.parametrize("name", ["trainin", "training.epoch", "seed.x", "training.epochs.x"])
def test_unknown_sections_are_refused(mapping, name):
    with pytest.raises(UserError, match="unknown configuration key"):
        config_section(load_config(mapping, KNOWN), name)
