"""From sections to one HTML file that needs nothing else: no network, no script, pictures inside."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import jinja2

from anamnesis.core.artifacts import write_text
from anamnesis.core.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below a header. ``kind``: "numbers" (all but the first column to the right) or "text"."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    kind: str = "numbers"
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure: PNG file (put into the page), caption, what it shows in words and numbers, and files to link
    (label -> path).
    """

    png: str | Path
    alt: str
    caption: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    links: Mapping[str, str | Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it, in this order: paragraphs, tables, pictures, passages of plain
    text.

    ``passages`` are (label, text) pairs printed exactly, such as prompts. ``links`` are files (label ->
    path).
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    passages: Sequence[tuple[str, str]] = ()
    links: Mapping[str, str | Path] = field(default_factory=dict)


def picture(
    png: str | Path, alt: str, caption: str, sentences: Sequence[str] = (), tables: Sequence[Table] = ()
) -> Picture:
    """A figure with the files of the same name; ``caption`` may have line breaks."""
    png = Path(png)
    links = {"PDF": png.with_suffix(".pdf"), "PNG": png, "data (CSV)": png.with_suffix(".csv")}
    return Picture(png, alt, " ".join(caption.split()), sentences, tables, links)


def build_report(sections: Sequence[Section], out_path: str | Path, title: str, subtitle: str = "") -> Path:
    """Write the sections to ``out_path`` as one HTML file and return its path.

    All text is escaped; links are relative to the folder of ``out_path``. The same input gives the same bytes
    (there is no date in it), and the file is complete or absent.

    Raises UserError for no sections, for two with one title, and for a picture that is missing or no PNG.
    """
    out_path = Path(out_path)
    if not sections:
        raise UserError("the report has no section: pass at least one")
    anchors = [_anchor(section.title) for section in sections]
    if len(set(anchors)) < len(anchors):
        raise UserError("two sections of the report have the same title: give each its own")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["embedded"] = _embedded
    environment.filters["relative"] = lambda path: _relative(path, out_path.parent)
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=list(zip(anchors, sections, strict=True)),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )
    write_text(out_path, page)
    return out_path


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _embedded(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"figure {path} cannot be read ({error.strerror}): draw it again") from error
    if not content.startswith(_PNG):
        raise UserError(f"figure {path} is not a PNG file: delete it and draw it again")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _relative(path: str | Path, folder: Path) -> str:
    # quoted, so that a blank or "#" in a name stays part of the address; "./" keeps a colon from reading as a
    # scheme
    return quote("./" + Path(os.path.relpath(path, folder)).as_posix())
