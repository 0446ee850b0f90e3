"""Heads and vectors as other tools write and read them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import tiny_models
from anamnesis.core.artifacts import write_parquet, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.study import read_heads, study_tasks, write_heads
from anamnesis.vectors.instruction import instruction_vector

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"


@pytest.mark.parametrize(
    "content",
    [
        [[1, 3], [0, 2]],
        [[1, 3, 0.25], [0, 2, 0.125]],
        {"heads": [[1, 3], [0, 2]], "model": "x"},
        {"heads": [{"layer": 1, "head": 3, "effect": 0.25}, {"layer": 0, "head": 2}]},
        [{"layer": 1, "head": 3}, {"layer": 0, "head": 2}],
    ],
)
def test_lists_of_heads_are_read_in_every_form(tmp_path, content):
    (tmp_path / "heads.json").write_text(json.dumps(content))
    assert read_heads(tmp_path / "heads.json") == [(1, 3), (0, 2)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[1, 3]", "cannot be read"),
        ("{}", "lists no heads"),
        ("[]", "lists no heads"),
        ("3", "lists no heads"),
        ("[[1]]", r"lists \[1\], which is no head"),
        ("[[1, -1]]", "which is no head"),
        ("[[1, true]]", "which is no head"),
        ("[[1.0, 2]]", "which is no head"),
        ('[{"layer": 1}]', "which is no head"),
        ('["1.3"]', "which is no head"),
    ],
)
def test_what_is_no_list_of_heads_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(UserError, match=rf"heads\.json .*{said}"):
        read_heads(tmp_path / "heads.json")
    with pytest.raises(UserError, match=r"gone\.json cannot be read"):
        read_heads(tmp_path / "gone.json")


def test_the_record_of_a_ranking_lists_the_selected_heads(tmp_path):
    effects = pd.DataFrame(
        [("p", 0, 0, 0.1, 0.2, 0.1, 1.0), ("p", 0, 1, 0.1, 0.5, 0.4, 2.0), ("p", 1, 0, 0.1, 0.4, 0.3, 3.0)],
        columns=["prompt_id", "layer", "head", "p_clean", "p_patched", "effect", "log_effect"],
    )
    shard = tmp_path / "t/causal_effects-1-of-1.parquet"
    write_parquet(shard, effects)
    record = runpy.run_path(str(SCRIPTS / "rank_heads.py"))["main"](
        [str(shard)], ["t"], {"rank_by": "probability", "heads": 2, "head_list": None},
        [str(tmp_path / "t/causal_effects.parquet")], str(tmp_path / "heads.parquet"),
    )  # fmt: skip
    assert record["heads"] == [
        {"rank": 1, "layer": 0, "head": 1, "effect": 0.4}, {"rank": 2, "layer": 1, "head": 0, "effect": 0.3},
    ]  # fmt: skip
    write_heads(tmp_path / "ours.json", pd.read_parquet(tmp_path / "heads.parquet"))
    assert read_heads(tmp_path / "ours.json") == [(0, 1), (1, 0)]
    assert json.loads((tmp_path / "ours.json").read_text())["heads"] == record["heads"]


def test_tensors_are_what_other_tools_expect(tmp_path):
    theta = torch.arange(4.0)
    write_tensors(tmp_path / "v.safetensors", {"theta": theta}, {"task": "antonym"})
    assert load_file(tmp_path / "v.safetensors")["theta"].equal(theta)
    with safe_open(tmp_path / "v.safetensors", "pt") as file:
        header = file.metadata()
    assert header["format"] == "pt"
    assert header["task"] == "antonym"


def test_a_study_takes_the_heads_of_another_tool():
    pairs = [(f"word {number}", f"other {number}") for number in range(12)]
    study = study_tasks(
        tiny_models.shared("llama"), tiny_models.tokenizer(), pairs, activation_prompts=4, effect_prompts=2
    )
    theirs = study.with_heads([(2, 3), (0, 1)])
    found = study.activations["pairs"]
    wanted = instruction_vector(study.engine.geometry, found.mean, [(2, 3), (0, 1)], found.scale)
    assert theirs.vector.equal(wanted)
    assert not theirs.vector.equal(study.vector)
    chosen = theirs.heads[theirs.heads.selected]
    assert set(zip(chosen.layer, chosen["head"], strict=True)) == {(2, 3), (0, 1)}
    with pytest.raises(UserError, match="layer"):
        study.with_heads([(7, 0)])


def test_tasks_with_and_without_choices_are_one_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    main = runpy.run_path(str(SCRIPTS / "prepare_task.py"))["main"]
    data = {
        "root": None, "sources": ["builtin"], "tasks": {}, "train_examples": 4, "validation_examples": 3,
        "test_examples": 2,
    }  # fmt: skip
    names = ("antonym", "news_topic", "capital_choice")  # without choices, with, and with knowledge as well
    for name in names:
        main(name, data, 0, str(tmp_path / f"{name}.parquet"))
    files = [str(tmp_path / f"{name}.parquet") for name in names]
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "c"))
    assert len(table) == 9 * len(names)
    assert table[0]["choices"] is None
    assert len(table[9]["choices"]) == 4
