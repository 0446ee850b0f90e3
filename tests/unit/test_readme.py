"""The library example of the README runs as printed."""

import re
from pathlib import Path

import tiny_models

README = Path(__file__).parents[2] / "README.md"


def python_example() -> str:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return example


def test_the_example_gives_heads_a_vector_and_an_intervened_answer(tmp_path, monkeypatch, capsys):
    """On a tiny random model in the place of the real one; layer 17 becomes one that the tiny model has."""
    tiny_models.save_snapshot(tmp_path / "results" / "models" / "smollm2-135m-instruct")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(python_example().replace("layer=17", "layer=1"), scope)
    study = scope["study"]
    assert study.vector.shape == (study.engine.geometry.hidden_size,)
    assert len(study.heads) == study.engine.geometry.n_layers * study.engine.geometry.n_heads
    assert "effect" in capsys.readouterr().out
    assert study.generate("teach", layer=1, scale=50.0) != study.generate("teach")


def test_the_example_is_short():
    code = [line for line in python_example().splitlines() if line.strip()]
    assert len(code) <= 15
