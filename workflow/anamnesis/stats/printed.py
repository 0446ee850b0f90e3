"""Tables as printed: cells, notes, Markdown and LaTeX. Values are fractions in frames and per cent here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from anamnesis.stats.intervals import MINIMUM_PAIRS
from anamnesis.stats.summary import MEASURES

HEADINGS = {"hp": "HP", "ip": "IP", "op": "OP", "forgetting": "Forgetting", "bwt": "BWT"}


def table_note(table: pd.DataFrame) -> str:
    """The note below Table 1: what the columns are, what n counts, and how far the intervals can be
    trusted.
    """
    note = (
        "Per cent. HP and IP: held-out sets, zero-shot and few-shot; OP: training tasks, zero-shot; all "
        "after the last stage. Higher is better, except for forgetting. Mean ± s.d. over chains (order × "
        "seed); n: number of chains. "
    )
    note += _ranked_by(table["scorer"].iloc[0])
    pairs = table[table["kind"] == "difference"]
    if pairs.empty:
        return note.strip()
    note += (
        "Δ: paired difference over the (order, seed) that both methods have, in percentage points, with its "
        f"interval ({_intervals(pairs)}); n: number of pairs. The interval is about other seeds "
        "(and orders, where several were run), from the same start and on the same questions. "
    )
    if ((pairs["n"] > 1) & pairs["low"].isna()).any():
        note += "Differences that are all equal have none, as they show no spread. "
    # by measure first: a chain of one task has no forgetting, which says nothing about the number of pairs
    least = int(pairs.groupby(["method", "guided"])["n"].max().min())
    if least < 2:
        note += f"With n = {least} there is no interval, and nothing can be said about other seeds."
    elif least < MINIMUM_PAIRS:
        note += (
            f"With n = {least} pairs it is weak evidence: {least} differences of one sign happen by chance "
            f"with probability {2.0 ** (1 - least):.2g}."
        )
    return note.strip()


_SCORERS = {
    "sum": "log-probability of the whole answer",
    "per_token": "mean log-probability of the answer's tokens",
    "per_character": "log-probability of the answer by its number of characters",
    "full_sequence": "mean log-probability of question and answer",
}


def _ranked_by(scorers: str) -> str:
    """How an answer is chosen where options are given. ``scorers``: names, or "generated" for none."""
    names = [name for name in scorers.split(", ") if name in _SCORERS]
    if not names:
        return ""
    said = " or ".join(f"{_SCORERS[name]} ({name})" for name in names)
    return (
        f"Where options are given, the one with the highest {said} is the answer: docs/reference/metrics.md. "
    )


def _intervals(rows: pd.DataFrame) -> str:
    """How the intervals of differences were found."""
    names = {"t": "Student's t", "BCa": "bootstrap, BCa", "percentile": "bootstrap, percentiles"}
    confidence = rows["confidence"].dropna()
    shown = [names[how] for how in rows.loc[rows["low"].notna(), "interval"].unique()]
    if shown:
        return f"{100 * confidence.iloc[0]:g} %: {'; '.join(shown)}"
    return "none with one pair" if rows["n"].max() <= 1 else "none"


def _level_cell(row: pd.Series, plus_minus: str) -> str:
    if row["n"] == 0:
        return "–"
    spread = f" {plus_minus} {100 * row['sd']:.1f}" if row["n"] > 1 else ""
    return f"{100 * row['mean']:z.1f}{spread} (n={row['n']})".replace("-", "−")


def difference_cell(row: pd.Series) -> str:
    """A difference as printed: points, interval, n."""
    if row["n"] == 0:
        return "–"
    interval = f" [{100 * row['low']:+z.1f}, {100 * row['high']:+z.1f}]" if pd.notna(row["low"]) else ""
    return f"{100 * row['mean']:+z.1f}{interval} (n={int(row['n'])})".replace("-", "−")


def table_cells(table: pd.DataFrame, plus_minus: str = "±") -> tuple[list[str], list[list[str]]]:
    """Table 1 as printed: (header, rows of strings), one row per method, then one per paired difference."""
    rows = []
    for (kind, method, guided), group in table.groupby(
        ["kind", "method", "guided"], sort=False, dropna=False
    ):
        cell: Callable[[pd.Series], str] = (
            difference_cell if kind == "difference" else lambda row: _level_cell(row, plus_minus)
        )
        by_measure = group.set_index("measure")
        name = f"Δ {guided} − {method}" if kind == "difference" else method
        rows.append([name, *(cell(by_measure.loc[m]) for m in MEASURES)])
    return ["Method", *HEADINGS.values()], rows


def to_csv(table: pd.DataFrame) -> str:
    """Table 1 as tidy CSV text: fractions in full precision, empty fields where nothing is defined."""
    return table.to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame) -> str:
    """Table 1 as a Markdown table with its note; vertical bars in names are escaped."""
    return f"{markdown_table(*table_cells(table))}\n\n{table_note(table)}\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, all columns but the first to the right; vertical bars are escaped."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$",
    "×": r"$\times$", "Δ": r"$\Delta$", "–": "--",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """``text`` with every character that LaTeX treats as a command replaced, usable outside math mode."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    # a row that begins with "[" would be read as an option of the line break before it
    return " & ".join("{" + c + "}" if c.startswith("[") else c for c in map(latex_escape, cells)) + r" \\"


def to_latex(table: pd.DataFrame) -> str:
    """Table 1 as a LaTeX ``table`` environment (needs the package booktabs), its note as the caption."""
    header, rows = table_cells(table)
    levels = table[table["kind"] == "level"]["method"].nunique()
    body = [_latex_row(row) for row in rows]
    if len(body) > levels:
        body.insert(levels, r"\midrule")
    lines = [
        r"\begin{table}", r"\centering", r"\small", r"\begin{tabular}{l" + "r" * len(MEASURES) + "}",
        r"\toprule", _latex_row(header), r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
        r"\caption{" + latex_escape(table_note(table)) + "}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
