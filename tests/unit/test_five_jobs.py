"""The five jobs that are compared with other tools: this project and plain hooks find the same numbers."""

from __future__ import annotations

import importlib

import pytest
import torch

import tiny_models
from runs import ROOT

PROMPTS = ["Input: hot\nOutput:", "Input: a\nOutput: b\n\nInput: big\nOutput:", "Input: cold\nOutput:"]


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/five_jobs_sides"))
    return importlib.import_module


def test_both_sides_find_the_same(benchmarks, tmp_path):
    folder = tiny_models.save_snapshot(tmp_path / "tiny")
    found = []
    for side in map(benchmarks, ("ours", "plain_hooks")):
        tool = side.load(folder)
        with torch.no_grad():
            model = getattr(tool[0], "model", tool[0]) if side.__name__ == "ours" else tool[0]
            targets = [int(model(**tool[1](p, return_tensors="pt")).logits[0, -1].argmax()) for p in PROMPTS]
        mean = side.mean_activations(tool, PROMPTS, targets)
        effect = side.causal_effects(tool, PROMPTS, targets, mean)
        vector = side.function_vector(tool, mean, effect)
        accuracy = side.accuracy_by_layer(tool, PROMPTS, [*targets[:2], 1], 90 * vector)
        found.append(
            [mean, effect, vector, torch.as_tensor(accuracy), side.steer(tool, PROMPTS, 9 * vector, 1)]
        )
    (*ours, text), (*theirs, same) = found
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other.double(), atol=1e-5, rtol=0)
    assert ours[1].abs().max() > 1e-3
    assert 0 < ours[3].mean() < 1
    assert text == same


def test_lines_are_those_with_code(benchmarks, tmp_path):
    file = tmp_path / "side.py"
    head = '"""Text.\n\nMore.\n"""\n\nimport a  # why\n\n\n# aside\n'
    file.write_text(head + "@b\ndef steer():\n    x = (\n        1,\n    )\n\n    return x\n")
    assert benchmarks("five_jobs").code_lines(file) == {"steer": 6, "rest": 1}


def test_results_that_differ_are_seen(benchmarks, capsys):
    module = benchmarks("five_jobs")
    numbers = {key: [1.0, 2.0] for key in module.JOBS} | {"steer": ["a"]}
    other = numbers | {"causal_effects": [1.0, 2.1], "steer": ["b"]}
    assert module.differing({"ours": {"results": numbers}}) == 0
    assert module.differing({"ours": {"results": numbers}, "pyvene_side": {"results": other}}) == 2
    assert "MISSED" in capsys.readouterr().out
