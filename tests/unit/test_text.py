"""The one form of texts: files, hubs, the catalogue and the built-in tables are read in it."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.benchmark_files import _with_short_answer, compose
from anamnesis.data.builtin import builtin_task
from anamnesis.data.catalogue import catalogue
from anamnesis.data.files import RawRow
from anamnesis.data.paraphrases import builtin_paraphrases
from anamnesis.data.preparation import load_task
from anamnesis.data.text import MARK, PLACE, answer_line, normal_form, without_blanks
from anamnesis.study import study_tasks

SIZES = {"train": 20, "validation": 5, "test": 10}
NFC, NFD = "Ärger über Café", unicodedata.normalize("NFD", "Ärger über Café")


@given(st.text())
def test_the_normal_form_is_its_own(text):
    once = normal_form(text)
    assert normal_form(once) == once == unicodedata.normalize("NFC", once)
    assert "\r" not in once
    assert normal_form(unicodedata.normalize("NFD", once)) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NFD, NFC),
        ("\u1100\u1161\u11a8", "각"),  # Korean letters
        ("\u212b", "Å"),  # the unit and the letter are one
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        (f"a{MARK}b{PLACE}c\ufdef", "abc"),
        ("ﬁ ² ｆ", "ﬁ ² ｆ"),  # other letters, not other spellings of them
        ("👨\u200d👩\u200d👧 ക്\u200d", "👨\u200d👩\u200d👧 ക്\u200d"),
    ],
)
def test_normal_form(text, expected):
    assert normal_form(text) == expected


def test_blanks_around_a_text():
    assert without_blanks("\ufeff \u200f\n a\u200b b \u2069\t") == "a\u200b b"
    assert without_blanks("\u200b \u2060") == ""
    assert answer_line(" \n\u200e\nyes \nno") == "yes"


def written(folder, rows, suffix):
    path = folder / f"task.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pandas as pd

        frame = pd.DataFrame(rows)
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    return path


def prepared(path, **settings):
    task = {"path": str(path), "instruction": "Sag es.", "metric": None, "knowledge": None, **settings}
    sizes = {f"{split}_examples": n for split, n in SIZES.items()}
    return load_task("own", {"tasks": {"own": task}, "sources": ["builtin"], **sizes}, 0)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_are_read_in_the_normal_form_and_the_leak_check_works_on_it(tmp_path, suffix, caplog):
    rows = [{"split": "train", "input": f"Ding {i}", "target": "gut"} for i in range(4)]
    rows += [{"split": "validation", "input": "Prüfung", "target": "gut"}]
    rows += [
        {"split": "test", "input": NFC, "target": NFD},
        {"split": "train", "input": NFD, "target": "gut"},
    ]
    rows += [{"split": "train", "input": "zwei\r\nZeilen", "target": "\u200fgut\u200f"}]
    rows += [{"split": "test", "input": "zwei\nZeilen", "target": "gut"}]
    with caplog.at_level(logging.WARNING):
        frame = prepared(written(tmp_path, rows, suffix), instruction=NFD, knowledge=f"{NFD}: {{input}} ist")
    test = frame[frame.split == "test"]
    assert sorted(test.input) == sorted([NFC, "zwei\nZeilen"])
    assert set(test.target) == {NFC, "gut"}
    assert set(frame.instruction) == {NFC}
    assert set(test.knowledge_prompt) == {f"{NFC}: {NFC} ist", f"{NFC}: zwei\nZeilen ist"}
    assert not set(test.input) & set(frame.input[frame.split == "train"])
    assert "2 rows of train are dropped: their input is also in test or validation" in caplog.text


def test_a_target_in_another_form_than_its_choices_is_among_them(tmp_path):
    rows = [
        {"split": split, "input": f"{split} {i}", "target": NFD, "choices": [NFC, "nein"]}
        for split in SIZES
        for i in range(2)
    ]
    frame = prepared(written(tmp_path, rows, "jsonl"))
    assert set(frame.label) == {0}
    assert set(frame.target) == {NFC}


def test_what_comes_with_the_workflow_is_in_the_normal_form():
    texts = [text for wordings in builtin_paraphrases().values() for text in wordings]
    for entry in catalogue().values():
        texts += [str(value) for value in vars(entry).values() if isinstance(value, str)]
    for name in ("antonym", "english_spanish", "choose_last_of_5_spanish"):
        frame = builtin_task(name, 0, SIZES)
        texts += [t for column in ("instruction", "input", "target") for t in frame[column]]
    assert [text for text in texts if normal_form(text) != text] == []


def test_rows_of_any_source_are_read_in_it():
    row = RawRow(Path("hub"), 1, {"input": f" {NFD}\r\n", "choices": [NFD, "\u200fnein"], "note": None})
    assert row.text("input") == row.optional_text("input") == NFC
    assert row.texts("choices") == [NFC, "nein"]
    with pytest.raises(UserError, match="column 'input': is empty"):
        RawRow(Path("hub"), 1, {"input": "\ufeff\u200b\ufdd0"}).text("input")


def test_a_translation_is_found_in_either_form():
    words = [RawRow(Path("a"), 1, {"input": "x", "target": NFD})]
    translations = [RawRow(Path("b"), 1, {"input": NFC, "target": "irritation"})]
    ((row,), left_out) = compose(words, translations)
    assert (row.text("target"), left_out) == ("irritation", [])


@pytest.mark.parametrize(
    ("target", "short"),
    [(f"{NFD}\r\nas it is so", NFC), ("\ufeff\r\nnein\nno", "nein"), ("other\r\nno", "other\nno")],
)
def test_answers_with_a_reasoning_are_cut_whatever_their_form(target, short):
    row = RawRow(Path("a"), 1, {"input": "x", "target": target, "choices": [NFC, "nein"]})
    assert _with_short_answer(row).text("target") == short


def test_what_a_user_gives_in_a_notebook_is_read_in_it():
    pairs = [(f"{word}{i}", word) for i in range(6) for word in (NFD, "cold")]
    studied = study_tasks(
        tiny_models.shared("llama"), tiny_models.tokenizer(), pairs, NFD, shots=2, heads=1,
        activation_prompts=2, effect_prompts=1,
    )  # fmt: skip
    assert studied.instructions == {"pairs": NFC}
    assert studied.answer(NFD) == studied.answer(NFC)
