"""Make files outside ``docs/`` part of the site, and pages of notebooks.

Called by mkdocs (``hooks`` of mkdocs.yml). Pages link to files as they lie in the repository. Pictures,
tables and Markdown files outside ``docs/`` are put under ``repository/``, and the links are written anew.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository"
NOTEBOOK = ".ipynb"
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and what pages link to outside ``docs/``."""
    for notebook in [file for file in files if file.src_uri.endswith(NOTEBOOK)]:
        place = notebook.src_uri.removesuffix(NOTEBOOK) + ".md"
        files.append(File.generated(config, place, content=_cells(Path(notebook.abs_src_path))))
    written = (file for file in files.documentation_pages() if file.abs_src_path)
    waiting = [(file.src_uri, Path(file.abs_src_path)) for file in written]
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


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name functions as ``:func:`name```, which is no Markdown: the name is enough."""
    return re.sub(r":(?:func|class|data|meth|mod):(?=<code>)", "", html)


def _linked(name: str, text: str) -> set[str]:
    return {_in_repository(name, match[1]) for match in LINK.finditer(text)}


def _in_repository(name: str, link: str) -> str:
    """The path of what a page links to, from the root of the repository."""
    page = name.removeprefix(f"{OUTSIDE}/") if name.startswith(f"{OUTSIDE}/") else f"docs/{name}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _cells(notebook: Path) -> str:
    """A notebook as Markdown, and a link to itself."""
    parts = [f"[Download this notebook]({notebook.name}?download)"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts[:2] = parts[1::-1]  # behind the title
    return "\n\n".join(parts)


def _in_site(path: str) -> str:
    """The place of a file of the repository on the site; a notebook's is its page."""
    if path.startswith("docs/") and path.endswith(NOTEBOOK):
        path = path.removesuffix(NOTEBOOK) + ".md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"
