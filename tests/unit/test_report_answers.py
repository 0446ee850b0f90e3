"""What the report says of changed answers, and the data of the table of all of them."""

import json

import pandas as pd
import pytest

from anamnesis.report import answers as module
from anamnesis.report.answers import answers_section, browser_data, collapse_sentences, fitting
from anamnesis.stats.answer_changes import KINDS
from report_answers import HOSTILE, QUESTIONS, hostile_answers


def counts(*rows):
    frame = pd.DataFrame(rows, columns=["method", "set", "form", "shots", "answer", "lost_to"])
    frame["lost"] = frame.groupby(["method", "set", "form", "shots"])["lost_to"].transform("sum")
    return frame.assign(role="held_out", target=1, before=1, after=1)


def test_lost_answers_that_became_one_are_named():
    table = counts(
        ("m", "sentiment", "instruction", 0, "negative", 14),
        ("m", "sentiment", "instruction", 0, "positive", 0),
        ("m", "capital", "instruction", 5, "", 9), ("m", "capital", "instruction", 5, "C", 1),
        ("m", "mixed", "instruction", 0, "a", 7), ("m", "mixed", "instruction", 0, "b", 3),
        ("m", "few", "instruction", 0, "a", 4),
    )  # fmt: skip
    assert collapse_sentences(table) == [
        "Where lost answers became one and the same: sentiment with m (instruction, zero-shot): all 14 "
        "became “negative”; capital with m (instruction, 5-shot): 9 of 10 became “(empty)”."
    ]
    assert collapse_sentences(table[table["set"] == "mixed"]) == []


def test_the_rows_of_the_table_are_those_of_the_frame():
    data = json.loads(json.dumps(browser_data(hostile_answers()), allow_nan=False))
    changes = hostile_answers().changes
    assert len(data["rows"]) == len(changes)
    row, wanted = data["rows"][5], changes.iloc[5]
    texts = data["texts"]
    assert [texts[row[k]] for k in (0, 2, 6, 7)] == [
        wanted[k] for k in ("set", "method", "question", "target")
    ]
    assert [texts[k] for k in row[8]] == [wanted["before"], wanted["stage_1"], wanted["stage_2"]]
    assert (row[9], texts[row[10]], row[11]) == ([1, 0, 1], wanted["guided"], 1)
    assert data["rows"][2][9] == [0, None, 1]  # not asked in between
    assert data["start"] == {
        "set": "x",
        "asked": "instruction, zero-shot",
        "method": "inclora",
        "kind": "lost",
    }
    assert data["vector"]["x|inclora"] == ["40.0\u00a0%", "60.0\u00a0%"]


def test_of_too_many_rows_every_chain_and_set_keeps_its_first(monkeypatch):
    whole = hostile_answers().changes
    groups = len(whole) // QUESTIONS
    monkeypatch.setattr(module, "MOST_ROWS", 3 * groups + 1)
    kept = fitting(whole)
    assert kept["example_id"].value_counts().to_dict() == {f"test-000{k}": groups for k in range(3)}
    assert browser_data(hostile_answers())["left_out"] == len(whole) - len(kept)


def test_the_tables_of_a_page_without_scripts():
    section = answers_section(hostile_answers(), {})
    shares, examples, counted = section.tables
    assert len(shares.rows) == 8
    assert shares.rows[0][3 : 3 + len(KINDS)] == ["12.5\u00a0%"] * 4 + ["50.0\u00a0%", "0.0\u00a0%"]
    assert [row[0] for row in examples.rows] == ["a", "a", "x", "x"]
    assert examples.rows[0][3:] == [f"before {HOSTILE[0]}", f"after {HOSTILE[0]}", "guided 0"]
    assert counted.rows[0][3:] == [HOSTILE[0], 10, 20, 30, 30]


def test_a_run_without_records_has_no_such_section():
    whole = hostile_answers()
    empty = module.Answers(whole.changes.iloc[:0], whole.shares.iloc[:0], whole.counts.iloc[:0])
    assert answers_section(empty, {}) is None


@pytest.mark.parametrize("kind", ["gained", "passing"])
def test_without_a_lost_answer_the_table_starts_with_what_there_is(kind):
    whole = hostile_answers()
    part = whole.changes[whole.changes["kind"] == kind]
    data = browser_data(module.Answers(part, whole.shares, whole.counts))
    assert data["start"]["kind"] == kind
    assert answers_section(module.Answers(part, whole.shares, whole.counts), {}).tables[1].rows == []
