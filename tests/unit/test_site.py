"""The documentation builds as a site without a warning, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from doc_blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return folder


def test_every_page_and_picture_is_there(site):
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("")
        assert (site / ("index.html" if name.name == "index" else f"{name}/index.html")).is_file()
    assert (site / "how-to/results/index.html").is_file()
    html = (site / "index.html").read_text(encoding="utf-8")
    (picture,) = re.findall(r'<img [^>]*src="([^"]+summary\.png)"', html)
    assert (site / picture).is_file()


def test_pages_load_nothing_from_elsewhere(site):
    loaded = r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"'
    assert not [page for page in site.rglob("*.html") if re.search(loaded, page.read_text(encoding="utf-8"))]


def test_search_finds_a_key_and_a_function(site):
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    assert "training.checkpoint_steps" in index
    assert "study_tasks" in index
