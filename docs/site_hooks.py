"""Make files outside ``docs/`` part of the site: pages link to them as they lie in the repository.

Called by mkdocs (``hooks`` of mkdocs.yml). Pictures, tables and Markdown files that a page links to are put
under ``repository/``, and the links are written anew.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository"
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside ``docs/``, and what those files link to."""
    waiting = [(file.src_uri, Path(file.abs_src_path)) for file in files.documentation_pages()]
    while waiting:
        name, source = waiting.pop()
        for target in _linked(name, source.read_text(encoding="utf-8")):
            place, path = _in_site(target), ROOT / target
            if target.startswith("docs/") or files.get_file_from_path(place) or not path.is_file():
                continue
            added = File.generated(config, place, abs_src_path=str(path))
            files.append(added)
            if path.suffix == ".md":
                waiting.append((added.src_uri, path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The links of a page as the site needs them."""
    name = page.file.src_uri

    def rewritten(match: re.Match) -> str:
        place = _in_site(_in_repository(name, match[1]))
        if files.get_file_from_path(place) is None:
            return match[0]
        return f"]({posixpath.relpath(place, posixpath.dirname(name) or '.')}{match[2] or ''})"

    return LINK.sub(rewritten, markdown)


def _linked(name: str, text: str) -> set[str]:
    return {_in_repository(name, match[1]) for match in LINK.finditer(text)}


def _in_repository(name: str, link: str) -> str:
    """The path of what a page links to, from the root of the repository."""
    page = name.removeprefix(f"{OUTSIDE}/") if name.startswith(f"{OUTSIDE}/") else f"docs/{name}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"
