"""The tables of the page on cost are what the command makes of the shapes; it puts them there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from anamnesis.commands.estimate import DEVICES
from anamnesis.config.load import load_config
from anamnesis.estimate.lengths import published_sets

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _common import put
from _cost_tables import MODELS, main, tables

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "workflow" / "experiments"
CONFIG = [ROOT / "config.yaml", EXPERIMENTS / "func.yaml"]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return tables(load_config(CONFIG, further_tasks=published_sets()), DEVICES["a100-80gb"], 4)


@pytest.mark.parametrize("document", ["cost.md", "models.md"])
def test_the_documents_have_the_tables_of_the_command(document, made):
    text = (ROOT / "docs" / "explanation" / document).read_text(encoding="utf-8")
    for name, block in made.items():
        expected = put(text, name, block)
        assert expected == text, (
            f"run: python benchmarks/_cost_tables.py … --write docs/explanation/{document}"
        )


def test_every_table_is_in_a_document(made):
    texts = "".join(
        (ROOT / "docs" / "explanation" / name).read_text(encoding="utf-8")
        for name in ("cost.md", "models.md")
    )
    assert all(texts.count(f"<!-- {mark}{name} -->") == 1 for name in made for mark in ("", "end of "))


def test_the_command_replaces_what_lies_between_its_lines(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("before\n<!-- shapes -->\nold\n<!-- end of shapes -->\nafter\n")
    assert main([*map(str, CONFIG), "--write", str(file)]) == 0
    text = file.read_text()
    assert text.startswith("before\n<!-- shapes -->\n| model |")
    assert text.endswith("|\n<!-- end of shapes -->\nafter\n")
    assert all(f"| {name} |" in text for name in MODELS)
    assert "old" not in text
    assert "hours" not in text  # no place for the other tables


def test_a_broken_configuration_is_one_line(capsys):
    assert main(["/nowhere.yaml"]) == 1
    assert "error: configuration file '/nowhere.yaml'" in capsys.readouterr().err


def test_what_no_computer_holds_has_no_hours(made):
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in made["models"].splitlines()
    }
    assert rows["llama-2-7b"][3] == "1, training 1"
    assert "above 64" in rows["llama-4-maverick"][3]
    assert rows["llama-4-maverick"][5:7] == ["–", "–"]
    for name in ("llama-3.1-70b", "llama-4-scout"):
        hours, held = (float(rows[name][k].split(",")[0]) for k in (5, 6))
        assert held > 2 * hours > 0
