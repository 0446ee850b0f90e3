"""The differences in the tables of docs/explanation/methods-compared.md are those of the committed ones."""

import re
from pathlib import Path

import pandas as pd
import pytest

from anamnesis.stats.printed import difference_cell

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "workflow/reference/methods"
CELL = r"[+−][\d.]+(?: \[[+−][\d.]+, [+−][\d.]+\])?"
# Section -> where its differences stand, and what methods are compared with where no column says it.
SECTIONS = {
    "Do the methods do what their papers say?": ("comparisons", "inclora"),
    "Does guidance improve any method?": ("table1", None),
    "Does it take real vectors?": ("comparisons", None),
    "What do the parts of joint flashback adaptation contribute?": ("comparisons", "jfa"),
}


def sections() -> dict[str, list[list[str]]]:
    """Section -> rows of its tables of differences, the header before each as a row of its own."""
    text = (ROOT / "docs/explanation/methods-compared.md").read_text()
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, body = part.split("\n", 1)
        lines = [line for line in body.split("\n") if line.startswith("| ")]
        rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
        found[title] = [row for row in rows if "Δ" in " ".join(row) or re.search(CELL, " ".join(row[1:]))]
    return found


@pytest.mark.parametrize("title", SECTIONS)
def test_every_difference_in_the_tables_is_the_committed_one(title):
    file, against = SECTIONS[title]
    table = pd.read_csv(TABLES / f"{file}.csv")
    keys = ["method", "measure"] if file == "table1" else ["method", "against", "order", "measure"]
    table = table[table["kind"] == "difference"] if file == "table1" else table.fillna({"order": 0})
    table, header, seen = table.set_index(keys).sort_index(), [], 0
    for row in sections()[title]:
        if "Δ" in " ".join(row):
            header = row
            continue
        order = 0
        for name, cell in zip(header, row, strict=True):
            if not name.startswith("Δ"):
                continue
            order = 1 if "first" in name else 2 if "second" in name else order
            measure = name.split(",")[0].removeprefix("Δ ").lower()
            key = (row[0], measure) if file == "table1" else (row[0], against or row[1], order, measure)
            found = table.loc[key]
            assert f"{cell} (n={found['n']})" == difference_cell(found), (row[0], name)
            assert "n" not in header or int(row[-1]) == found["n"], row[0]
            seen += 1
    assert seen >= 20
