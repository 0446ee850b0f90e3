"""The table of changed answers: what its filters show is what the frames have."""

from __future__ import annotations

import pytest

from report_answers import QUESTIONS

START = {"set": "x", "shots": 0, "method": "inclora", "kind": "lost"}


def status(page) -> str:
    return page.locator(".status").text_content()


def expected(results, **chosen):
    rows = results.answers.changes
    for key, value in chosen.items():
        rows = rows[rows[key] == value]
    return len(rows)


def test_at_first_it_shows_what_a_held_out_set_lost(opened, results):
    page = opened()
    assert status(page).startswith(f"{expected(results, **START)} changed answers shown.")
    assert page.locator(".filters select[name=set]").input_value() == "x"
    assert page.locator(".answers-table tbody tr").count() == 12


@pytest.mark.parametrize(
    ("name", "option", "chosen"),
    [
        ("set", "a", {**START, "set": "a"}),
        ("asked", "instruction, 5-shot", {**START, "shots": 5}),
        ("method", "inclora-ivg", {**START, "method": "inclora-ivg"}),
        ("seed", "1", {**START, "seed": 1}),
        ("kind", "gained", {**START, "kind": "gained"}),
        ("kind", "passing", {**START, "kind": "passing"}),
        ("set", "all", {key: value for key, value in START.items() if key != "set"}),
    ],
)
def test_each_filter_shows_its_part(opened, results, name, option, chosen):
    page = opened()
    page.locator(f".filters select[name={name}]").select_option(option)
    assert status(page).startswith(f"{expected(results, **chosen)} changed answers shown.")


def test_words_are_searched_for_in_questions_and_answers(opened):
    page = opened()
    page.locator(".filters input").fill("QUESTION 4 OF SEED 1")
    assert status(page).startswith("1 changed answer shown.")
    assert page.locator(".answers-table tbody tr").count() == 1


def test_the_share_of_each_kind_is_of_all_questions(opened):
    page = opened()
    each = QUESTIONS // 4 * 2
    total = 2 * 2 * QUESTIONS
    assert f"Of {total} answers: lost {100 * each / total:.1f} %, lost and back" in status(page)
    assert f"right throughout {100 * 2 * QUESTIONS / total:.1f} %" in status(page)


def test_a_row_has_the_answers_of_all_stages_and_says_which_were_right(opened):
    page = opened()
    header = page.locator(".answers-table thead th").all_text_contents()
    assert header == [
        "Question",
        "Right answer",
        "Before",
        "After 1 a",
        "After 2 b",
        "With guidance",
        "With the vector",
    ]
    cells = page.locator(".answers-table tbody tr").first.locator("td")
    marks = [cells.nth(k).locator("[role=img]").get_attribute("aria-label") for k in (1, 2, 3, 4)]
    assert marks == ["right:", "wrong:", "wrong:", "right:"]
    assert cells.nth(2).text_content() == "✗\u00a0(empty)"
    assert cells.nth(4).text_content() == "✓\u00a0guided 0"
    page.locator(".filters select[name=kind]").select_option("gained")
    assert page.locator(".answers-table tbody tr").first.locator("td").nth(2).text_content() == "–"


def test_what_lost_answers_became_and_accuracy_with_the_vector(opened):
    page = opened()
    table = page.locator(".answers .scroll").first
    assert "of 30 lost answers became it" in table.text_content()
    assert table.locator("tbody td").first.text_content() == "10"
    assert (
        "after training 40.0\u00a0%, with the instruction vector added 60.0\u00a0%"
        in page.locator(".answers").text_content()
    )
    page.locator(".filters select[name=method]").select_option("all")
    assert table.locator("table").count() == 0


def test_more_rows_come_when_asked_for(opened, results):
    page = opened()
    page.locator(".filters select[name=kind]").select_option("all")
    rows = page.locator(".answers-table tbody tr")
    assert rows.count() == 12
    page.locator(".answers button").click()
    assert rows.count() == 24
    for _ in range(8):
        page.locator(".answers button").click()
    assert rows.count() == 2 * QUESTIONS == 120
    assert not page.locator(".answers button").is_visible()
