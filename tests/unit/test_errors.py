"""Messages of errors: one line, safe to print, of bounded length, whatever they quote."""

from __future__ import annotations

import pytest

from anamnesis.core.errors import LONGEST_MESSAGE, UserError, nearest, show_value, unknown


def test_what_a_terminal_would_obey_and_no_file_takes_is_written_as_an_escape():
    message = str(UserError("a\nb\tc \x1b[2Jd \x00 \u202e \ud800 é →\u2028end"))
    assert message == r"a b c \x1b[2Jd \x00 \u202e \ud800 é → end"
    message.encode()


def test_a_long_message_keeps_its_beginning_and_its_remedy():
    message = str(UserError(f"the file {'x' * 10**6} is damaged; delete it"))
    assert message.startswith("the file xxx")
    assert message.endswith("xxx is damaged; delete it")
    assert len(message) <= LONGEST_MESSAGE + 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"b": 1, "a": [None, "x"]}, "{'b': 1, 'a': [None, 'x']}"),
        ("x" * 10**6, "'" + "x" * 56 + "..."),
        ([[[[[1]]]]], "[[[[...]]]]"),
        ({1: {2: {3: {4: 5}}}}, "{1: {2: {3: {...}}}}"),
    ],
)
def test_values_are_shown_in_part(value, shown):
    assert show_value(value) == shown


def test_numbers_of_any_length_are_shown():
    assert show_value(10**40) == str(10**40)
    assert show_value([10**5000]) == "[an integer of about 4983 digits]"


def test_names_are_cut_and_only_texts_have_near_ones():
    assert "unknown split '" + "x" * 57 + "...': (allowed" in str(unknown("split", "x" * 10**6, ["train"]))
    assert nearest("trian", ["train"]) == "train"
    assert nearest(3, ["train"]) is None
