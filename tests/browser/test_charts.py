"""Charts: drawn in the place of their pictures, values when pointed at, a head's effects when chosen."""

from __future__ import annotations

import pytest

CHARTS = {"accuracy": "Accuracy against stage", "heads": "Heat map", "layers": "Accuracy against layer"}


def figure(page, name):
    found = page.locator("figure", has=page.locator(f"img[alt^='{CHARTS[name]}']"))
    found.scroll_into_view_if_needed()
    found.locator("svg").wait_for()
    return found


def tooltip(page, mark) -> dict[str, str]:
    mark.hover(force=True)
    table = page.locator("#vg-tooltip-element.visible")
    table.wait_for()
    rows = [row.locator("td").all_text_contents() for row in table.locator("tr").all()]
    return {key.rstrip(":"): value for key, value in rows}


def effects(page) -> list[str]:
    """The lengths of the bars below the map of heads."""
    return [
        bar.get_attribute("d")
        for bar in figure(page, "heads").locator(".mark-rect path[d][aria-roledescription=bar]").all()
    ]


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_in_the_place_of_its_picture(opened, name):
    page = opened()
    assert figure(page, name).locator("svg").is_visible()
    assert not figure(page, name).locator("img").is_visible()
    assert "interval and n" in figure(page, name).locator(".note").first.text_content()


def test_pointing_at_a_curve_shows_value_interval_and_n(opened, results):
    page = opened()
    points = figure(page, "accuracy").locator(".mark-symbol.role-mark path")
    shown = tooltip(page, points.first)
    assert set(shown) == {"Method", "Set", "After", "Accuracy", "Interval", "n"}
    assert shown["n"] == "2 chains, 20 questions each"
    assert shown["Accuracy"].replace("\u00a0", " ").endswith(" %")


def test_the_form_of_the_questions_can_be_chosen(opened):
    page = opened()
    chart = figure(page, "accuracy")
    titles = chart.locator(
        ".role-row-title text, .role-column-header text, .column_header text, [aria-label*='title'] text"
    )
    before = chart.locator(".mark-symbol.role-mark path").count()
    chart.locator("select").select_option("knowledge, zero-shot")
    page.wait_for_function(
        "(n) => document.querySelectorAll('figure.drawn .mark-symbol.role-mark path').length < n", arg=before
    )
    assert chart.locator(".mark-symbol.role-mark path").count() == 6  # two methods, three stages, one set
    assert titles.count() >= 0


def test_pointing_at_a_layer_shows_value_interval_and_n(opened):
    page = opened()
    shown = tooltip(page, figure(page, "layers").locator(".mark-symbol.role-mark path").first)
    assert {"Condition", "Accuracy", "Interval", "n"} <= set(shown)
    assert shown["n"] == "20 questions"
    assert " to " in shown["Interval"]


def test_pointing_at_a_head_shows_its_effect(opened, results):
    page = opened()
    cells = figure(page, "heads").locator(".mark-rect.role-mark path")
    shown = tooltip(page, cells.nth(5))
    row = results.heads.set_index(["layer", "head"]).loc[tuple(map(int, shown["Head"].split(".")))]
    assert float(shown["Effect (probability)"].replace("−", "-")) == pytest.approx(row["effect"], abs=1e-3)
    assert shown["Rank"] == str(row["rank"])


def test_clicking_a_head_shows_its_effect_in_each_task(opened):
    page = opened()
    before = effects(page)
    assert len(before) == 2
    figure(page, "heads").locator(".mark-rect.role-mark path").nth(7).click(force=True)
    page.wait_for_timeout(300)
    assert effects(page) != before


def test_a_head_can_be_chosen_with_the_keyboard(opened):
    page = opened()
    before = effects(page)
    select = figure(page, "heads").locator("select")
    select.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    assert effects(page) != before
    assert select.locator("xpath=ancestor::label").text_content().startswith("Head (layer.head)")


def test_charts_follow_the_width_of_the_window(opened):
    page = opened(1200)
    wide = figure(page, "accuracy").locator("svg").bounding_box()["width"]
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function(
        "(w) => document.querySelector('figure.drawn svg').getBoundingClientRect().width < w - 200", arg=wide
    )
    assert figure(page, "accuracy").locator("svg").bounding_box()["width"] <= 500
