"""The documentation in a browser: it loads nothing from elsewhere, and its search finds a key."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading

import pytest

from doc_blocks import ROOT


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the site: a search runs in a worker, which browsers start for pages of a server only."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    page.goto(address)
    yield page
    context.close()


def test_search_finds_a_key_by_a_part_of_its_name(page):
    page.keyboard.press("/")
    page.keyboard.type("checkpoint_steps")
    page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    assert "Configuration keys" in page.locator(".md-search-result__list").inner_text()


@pytest.mark.parametrize("place", ["", "tutorial/first-experiment/", "how-to/results/", "reference/api/"])
def test_pages_load_nothing_from_elsewhere_and_raise_no_error(page, address, place):
    page.goto(address + place)
    page.wait_for_load_state("networkidle")
    assert all(url.startswith((address, "data:", "blob:")) for url in page.asked)
    assert not page.complaints


def test_pictures_are_there(page, address):
    page.goto(f"{address}explanation/methods-compared/")
    loaded = page.eval_on_selector_all("article img", "images => images.map(image => image.naturalWidth)")
    assert len(loaded) == 3
    assert min(loaded) > 100
