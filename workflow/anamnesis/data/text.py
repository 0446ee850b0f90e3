"""The one form in which texts are read, from files, hubs and models, and what counts as blank."""

from __future__ import annotations

import re
import unicodedata

MARK = "\ufdd0"
"""Stands before a control token of a chat template (:mod:`anamnesis.data.encoding`)."""
PLACE = "\ufdd1"
"""Stands for a text that is to be put in."""
_RESERVED = re.compile("[\ufdd0-\ufdef]")  # Unicode keeps them out of texts, for programs to use
_LINE_BREAK = re.compile("\r\n?")
INVISIBLE = "\u200b\u200e\u200f\u061c\u2060\ufeff\u202a-\u202e\u2066-\u2069"
"""Characters without width that change nothing at the ends of a text: spaces of no width, marks of direction.
Joiners are not among them, as they may change the letter before them.
"""
_BLANK_START = re.compile(rf"[\s{INVISIBLE}]+")
_BLANK_END = re.compile(rf"[\s{INVISIBLE}]+\Z")


def normal_form(text: str) -> str:
    """The text in Unicode's form NFC, with line breaks as one line feed, without characters that are reserved
    for programs.
    """
    return unicodedata.normalize("NFC", _LINE_BREAK.sub("\n", _RESERVED.sub("", text)))


def without_blanks(text: str) -> str:
    """The text without blanks, line breaks and characters of no width around it."""
    return _BLANK_END.sub("", without_blanks_before(text))


def without_blanks_before(text: str) -> str:
    """The text from its first character on that is not blank."""
    match = _BLANK_START.match(text)
    return text[match.end() :] if match else text


def answer_line(text: str) -> str:
    """The first line of a text that is not blank, without blanks around it; empty where none is."""
    return without_blanks(without_blanks_before(text).split("\n")[0])


def unmarked(text: str) -> str:
    """The text as a model reads it, without the marks before control tokens."""
    return text.replace(MARK, "")
