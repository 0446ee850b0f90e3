"""The report's tables of what was run (figure 2 and appendices A to D of arXiv 2406.12227), from CSV."""

from __future__ import annotations

import pandas as pd

from anamnesis.report.builder import Section, Table
from anamnesis.report.results import AnalysisResults

CAPTIONS = {
    "task_forms": "The two forms of a task: a test example of every set, as instruction (c, x, answer) and, "
    "where the set has it, as a plain statement (x, answer).",
    "data": "Data statistics. Lengths: mean number of words over the test examples.",
    "templates": "Prompts as the model sees them; {x} stands for the input. The few-shot form has the "
    "demonstrations between the instruction and the question.",
    "orders": "Orders in which the tasks are learnt.",
    "training": "Settings of every method in force; a dash where a method has no such setting.",
    "vectors": "How instruction vectors were made.",
}
"""Table name -> what it shows."""

_OPEN = ("task_forms",)


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """(header, rows) as text; underscores of column names become blanks."""
    header = [str(column).replace("_", " ") for column in table.columns]
    return header, [[str(value) for value in row] for row in table.itertuples(index=False)]


def sections(results: AnalysisResults) -> list[Section]:
    """Of the CSV, Markdown and LaTeX files of the tables the first are shown, all are linked."""
    files, tables = results.files, []
    for path in (file for file in files if file.suffix == ".csv"):
        header, rows = cells(pd.read_csv(path, dtype=str, keep_default_na=False))
        tables.append(Table(header, rows, CAPTIONS[path.stem], kind="text", folded=path.stem not in _OPEN))
    return [Section("Tasks, templates and settings", tables=tables, links={f.name: f for f in files})]
