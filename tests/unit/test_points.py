"""The tables of docs/cost.md are what the command makes of the shapes, and the command puts them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamnesis.commands.estimate import DEVICES
from anamnesis.config.load import load_config
from anamnesis.estimate.points import MODELS, main, put, tables
from anamnesis.estimate.published_sizes import published_sets
from anamnesis.models.shape import shape_from

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "workflow" / "experiments"
CONFIG = [ROOT / "config.yaml", EXPERIMENTS / "func.yaml"]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return tables(load_config(CONFIG, further_tasks=published_sets()), DEVICES["a100-80gb"], 4)


@pytest.mark.parametrize("document", ["cost.md", "models.md"])
def test_the_documents_have_the_tables_of_the_command(document, made):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for name, block in made.items():
        expected = put(text, name, block)
        assert expected == text, f"run: python -m anamnesis.estimate.points … --write docs/{document}"


def test_every_table_is_in_a_document(made):
    texts = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("cost.md", "models.md"))
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


def test_work_follows_the_experts_that_are_computed():
    """transformers' Llama 4 computes all of them, other mixtures those that are chosen."""
    mixture = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
        "vocab_size": 100, "num_local_experts": 8, "num_experts_per_tok": 2,
    }  # fmt: skip
    few, all_of_them = (shape_from(mixture | {"model_type": kind}) for kind in ("mixtral", "llama4_text"))
    expert = 2 * 3 * 64 * 32  # weights of one expert in both layers
    assert all_of_them.active - few.active == (6 + 1) * expert  # and the shared one
    assert all_of_them.parameters - few.parameters == expert
