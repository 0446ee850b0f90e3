"""The tables of docs/cost.md are what the command makes of the shapes, and the command puts them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamnesis.compute.demands import devices_needed
from anamnesis.compute.estimate import DEVICES
from anamnesis.compute.points import MODELS, main, put, swept, tables
from anamnesis.compute.shape import known_shape
from anamnesis.config.load import load_config

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "workflow" / "experiments"
CONFIG = [ROOT / "config.yaml", EXPERIMENTS / "func.yaml", EXPERIMENTS / "func-builtin.yaml"]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return tables(load_config(CONFIG), DEVICES["a100-80gb"], 4)


@pytest.mark.parametrize("document", ["cost.md", "models.md"])
def test_the_documents_have_the_tables_of_the_command(document, made):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for name, block in made.items():
        expected = put(text, name, block)
        assert expected == text, f"run: python -m anamnesis.compute.points … --write docs/{document}"


def test_every_table_is_in_a_document(made):
    texts = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("cost.md", "models.md"))
    assert all(texts.count(f"<!-- {name} -->") == 1 for name in made)


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


def test_larger_models_need_more_devices_and_mixtures_less_work():
    shapes = {name: known_shape(name, "bfloat16") for name in MODELS}
    counts = [devices_needed(shape, 80e9, 2048) for shape in shapes.values()]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert all(count * 80e9 > shape.bytes for count, shape in zip(counts, shapes.values(), strict=True))
    assert devices_needed(shapes["llama-3.1-70b"], 80e9, 8192, training=True) > counts[3]
    flops = {name: swept(shape).flops(shape) for name, shape in shapes.items()}
    assert flops["llama-4-maverick"] == pytest.approx(flops["llama-4-scout"], rel=0.01)
    assert flops["llama-4-maverick"] < flops["llama-3.1-70b"]
