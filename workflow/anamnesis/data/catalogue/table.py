"""The catalogue as the tables of docs/reference/catalogue.md; as a module it brings them up to date."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from anamnesis.data.catalogue import catalogue, look_up, sequences
from anamnesis.data.catalogue.entry import DataSet

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "catalogue.md"
BEGIN, END = "<!-- begin: catalogue -->", "<!-- end: catalogue -->"


def page_text(page: str) -> str:
    """``page`` with the tables of the catalogue between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_tables()}\n\n{END}{after}"


def _tables() -> str:
    entries = [*_listed(), look_up("task618")]
    sets = ["set", "paper", "licence", "metric", "its own", "few-shot", "input / answer", "epochs"]
    hub = ["set", "repository", "commit", "columns"]
    parts = [
        "### Sets",
        _table(sets, map(_set_row, entries)),
        "### Words",
        _table(["set", "instruction", "knowledge form of options"], map(_words_row, entries)),
        "### Hub repositories",
        _table(hub, (_hub_row(entry) for entry in entries if entry.hub)),
        "### Sequences",
        _table(["name", "tasks"], ((f"`{name}`", ", ".join(tasks)) for name, tasks in sequences().items())),
    ]
    return "\n\n".join(parts)


def _listed() -> list[DataSet]:
    """One entry for all of BBH, whose tasks differ in nothing but their names."""
    entries = catalogue().values()
    return [*(e for e in entries if e.suite != "BBH"), next(e for e in entries if e.suite == "BBH")]


def _name(entry: DataSet) -> str:
    if entry.suite == "BBH":
        return f"the {sum(e.suite == 'BBH' for e in catalogue().values())} tasks of BBH"
    return "`task<number>` (SuperNI)" if entry.suite == "SuperNI" else f"`{entry.name}` ({entry.suite})"


def _set_row(entry: DataSet) -> list[str]:
    paper = f"arXiv {entry.paper}" if entry.paper[0].isdecimal() else entry.paper
    epochs = str(entry.epochs or "–")
    lengths = f"{entry.max_input} / {entry.max_answer}"
    own = entry.own_metric or "same"
    return [_name(entry), paper, entry.licence, entry.metric, own, entry.demonstrations, lengths, epochs]


def _words_row(entry: DataSet) -> list[str]:
    if entry.suite == "SuperNI":
        words = "its definition"
    elif entry.instruction is None:
        words = "of the file, or by the form of the answers"
    else:
        words = entry.instruction or "none: it is part of the input"
    cue = f" … {entry.cue}" if entry.cue else ""
    return [_name(entry), words + cue, entry.knowledge]


def _hub_row(entry: DataSet) -> list[str]:
    revision = entry.hub.revision
    commit = f"`{revision[:12]}`" if revision else "none known: the first use pins it"
    return [_name(entry), entry.hub.repository, commit, str(entry.hub.columns)]


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header)]
    lines += [["---"] * len(lines[0]), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", "⏎") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def main() -> None:
    """Bring the page up to date and say where it is."""
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
