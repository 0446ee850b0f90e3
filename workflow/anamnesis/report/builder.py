"""From sections to one HTML file that needs nothing else: no network, pictures, charts and scripts inside.

Scripts only add to the page: without them it has every table and picture.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

import jinja2
import vl_convert
from markupsafe import Markup, escape

from anamnesis.core.artifacts import write_text
from anamnesis.core.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below a header. ``kind``: "numbers" (all but the first column to the right) or "text".
    ``folded``: shown when its caption is clicked, and then with its ``note``.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    kind: str = "numbers"
    folded: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the first screen. ``label``: what it is of; ``value`` with ``unit``, its ``interval`` and
    n, what that allows to be said (``verdict``), and one ``sentence``.
    """

    label: str
    value: str
    unit: str
    interval: str
    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure: PNG file (put into the page), caption, what it shows in words and numbers, and files to link
    (label -> path). ``chart``: a Vega-Lite specification that takes its place where scripts run.
    """

    png: str | Path
    alt: str
    caption: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    links: Mapping[str, str | Path] = field(default_factory=dict)
    chart: Mapping | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it, in this order: numbers, paragraphs, answers, tables, pictures,
    terms, passages of plain text.

    ``answers`` is what the table that one can filter shows (``report.answers``). ``terms`` are words and what
    they mean. ``passages`` are (label, text) pairs printed exactly, such as prompts. ``links`` are files
    (label -> path). ``folded``: shown when its heading is clicked.
    """

    title: str
    paragraphs: Sequence[str] = ()
    numbers: Sequence[Number] = ()
    answers: Mapping | None = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    terms: Sequence[tuple[str, str]] = ()
    passages: Sequence[tuple[str, str]] = ()
    links: Mapping[str, str | Path] = field(default_factory=dict)
    folded: bool = False


def picture(
    png: str | Path,
    alt: str,
    caption: str,
    sentences: Sequence[str] = (),
    tables: Sequence[Table] = (),
    chart: Mapping | None = None,
) -> Picture:
    """A figure with the files of the same name; ``caption`` may have line breaks."""
    png = Path(png)
    links = {"PDF": png.with_suffix(".pdf"), "PNG": png, "data (CSV)": png.with_suffix(".csv")}
    return Picture(png, alt, " ".join(caption.split()), sentences, tables, links, chart)


def build_report(
    sections: Sequence[Section],
    out_path: str | Path,
    title: str,
    subtitle: str = "",
    abbreviations: Mapping[str, str] | None = None,
    glossary: str = "",
) -> Path:
    """Write the sections to ``out_path`` as one HTML file and return its path.

    ``abbreviations`` are spelt out where they are the words of a table's header, and lead to the section
    with the title ``glossary``. All text is escaped, and data for scripts is JSON without "<"; only scripts
    of ours run (by their digests). Links are relative to the folder of ``out_path``. The same input gives the
    same bytes (there is no date in it), and the file is complete or absent.

    Raises UserError for no sections, for two with one title, and for a picture that is missing or no PNG.
    """
    out_path = Path(out_path)
    if not sections:
        raise UserError("the report has no section: pass at least one")
    anchors = [_anchor(section.title) for section in sections]
    if len(set(anchors)) < len(anchors):
        raise UserError("two sections of the report have the same title: give each its own")
    environment = _environment(out_path.parent)
    environment.filters["spelt"] = lambda text: _spelt(str(text), abbreviations or {}, _anchor(glossary))
    scripts = _scripts(sections)
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=list(zip(anchors, sections, strict=True)),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        allowed=" ".join(map(_digest, scripts)) or "'none'",
        vega=f"Vega {vl_convert.get_vega_version()}, Vega-Lite, Vega-Embed",
    )
    write_text(out_path, page)
    return out_path


def _environment(folder: Path) -> jinja2.Environment:
    """Of templates whose links are relative to ``folder``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # no NaN, which browsers refuse; the order of keys is that of the page
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
        "ensure_ascii": False,
    }
    environment.filters["embedded"] = _embedded
    environment.filters["relative"] = lambda path: _relative(path, folder)
    return environment


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _scripts(sections: Sequence[Section]) -> list[str]:
    """The scripts of the page, in their order: none where there is nothing to explore."""
    charts = any(picture.chart for section in sections for picture in section.pictures)
    names = [
        "page.js",
        *["charts.js"] * charts,
        *["answers.js"] * any(section.answers for section in sections),
    ]
    ours = [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]
    return [*[_chart_library()] * charts, *ours]


@cache
def _chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed, which the package has inside; fit for a script element."""
    return vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    # as the browser sees the element: with the line breaks around it (report.html.j2)
    content = hashlib.sha256(f"\n{script}\n".encode()).digest()
    return f"'sha256-{base64.b64encode(content).decode('ascii')}'"


def _spelt(text: str, abbreviations: Mapping[str, str], anchor: str) -> Markup:
    if text not in abbreviations:
        return escape(text)
    return Markup('<a href="#{}"><abbr title="{}">{}</abbr></a>').format(anchor, abbreviations[text], text)


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
