"""The report as a reader gets it: from disk, on a phone, on paper, without scripts, with a keyboard."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from report_answers import HOSTILE

FOLDED = ["Prompts", "What was run", "Provenance"]


def test_it_opens_from_disk_without_a_complaint_and_asks_for_nothing(opened, report):
    page = opened(whole=True)
    assert page.title() == "Anamnesis: s · tiny"
    assert page.seen.messages == []
    assert [url for url in page.seen.requests if not url.startswith("data:")] == [report.as_uri()]
    assert report.stat().st_size < 2_000_000  # the library of charts is half of it


def test_the_first_screen_has_three_numbers_and_the_picture(opened):
    page = opened()
    numbers = page.locator(".number")
    assert numbers.count() == 3
    assert numbers.locator("h3").all_text_contents()[0] == "What was lost"
    assert numbers.locator(".value").first.text_content().split() == ["−20.0", "points"]
    page.locator("section").first.locator("svg").wait_for()
    assert numbers.last.bounding_box()["y"] < 500


def test_texts_of_data_are_shown_as_they_are_and_run_nothing(opened):
    page = opened(whole=True)
    for form in page.locator(".filters select[name=kind]").all():
        form.select_option("all")
    while page.locator(".answers button").is_visible():
        page.locator(".answers button").click()
    shown = page.locator(".answers-table").text_content()
    for text in HOSTILE:
        assert f"before {text}" in shown
    assert page.evaluate("window.hacked") is None
    assert page.seen.dialogs == []
    assert page.locator("img:not([src^='data:image/png'])").count() == 0
    assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 0


def test_a_script_that_gets_into_the_page_does_not_run(opened):
    page = opened()
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.hacked = 'inserted'";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend", '<b onclick="window.hacked = 1" id="bad">x</b>');
    }""")
    page.locator("#bad").click()
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in message for message in page.seen.messages)


@pytest.mark.parametrize("width", [320, 400])
def test_on_a_phone_nothing_is_wider_than_the_screen(opened, width):
    page = opened(width, whole=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator(".chart svg").all():
        assert chart.bounding_box()["width"] <= width
    cell = page.locator(".answers-table td").first
    assert cell.evaluate("e => getComputedStyle(e, '::before').content").startswith('"Right answer: ')
    assert float(page.locator("body").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) >= 16


def test_on_paper_pictures_stand_in_the_place_of_charts(opened):
    page = opened(whole=True)
    page.emulate_media(media="print")
    for image in page.locator("img").all():
        assert image.is_visible()
    for hidden in (*page.locator(".chart").all(), page.locator(".answers"), page.locator("nav")):
        assert not hidden.is_visible()
    assert page.locator(".number").first.is_visible()
    page.pdf()


def test_without_scripts_all_tables_and_pictures_are_there(opened, results):
    page = opened(scripts=False)
    assert page.locator("img").count() == len(results.figures)
    for image in page.locator("img").all():
        assert image.is_visible()
    assert not page.locator(".answers, .chart").first.is_visible()
    assert page.locator("select:visible, button:visible, input:visible").count() == 0
    examples = page.locator("summary", has_text="Examples of answers that were lost")
    examples.click()
    table = examples.locator("xpath=..").locator("table")
    assert table.is_visible()
    assert "after " + HOSTILE[0] in table.text_content()


def test_folded_sections_open_with_the_keyboard_and_by_their_links(opened):
    page = opened()
    assert [s.text_content() for s in page.locator("details.part h2").all()] == FOLDED
    first = page.locator("details.part").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.locator("pre").is_visible()
    page.locator("nav a", has_text="Provenance").click()
    assert page.locator("#provenance table").first.is_visible()


def test_everything_that_can_be_used_is_reached_with_the_tab_key(opened):
    page = opened(whole=True)
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    wanted = page.evaluate("""() => {
      const all = [...document.querySelectorAll("a, select, input, button, summary, .scroll")];
      const used = all.filter((e) => e.checkVisibility());
      window.left = new Set(used);
      return used.length;
    }""")
    for _ in range(wanted + 10):
        page.keyboard.press("Tab")
        page.evaluate("window.left.delete(document.activeElement)")
    assert wanted > 15
    assert page.evaluate("[...window.left].map((e) => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize(("width", "folded"), [(1200, False), (400, True)])
def test_contrast_names_and_alternative_texts_pass_axe(opened, width, folded):
    page = opened(width, whole=True)
    if folded:
        page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    found = Axe().run(page)
    assert [
        f"{v['id']}: {[n['html'][:90] for n in v['nodes'][:3]]}" for v in found.response["violations"]
    ] == []


def test_every_picture_says_what_it_shows(opened):
    page = opened()
    for image in page.locator("img").all():
        assert len(image.get_attribute("alt")) > 20
