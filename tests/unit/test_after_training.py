"""The vector of the model before training added to models after the last stage: against adapters merged by
hand, one forward pass per question and condition, and what is said of the numbers.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

import reference
from anamnesis.core.artifacts import write_tensors
from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.stats.layers import best_layer
from anamnesis.vectors.interventions import intervention_table, random_vectors, split_questions
from tiny_models import build, save_snapshot, shared, tokenizer

MAIN = Path(__file__).parents[2] / "workflow" / "scripts" / "recover.py"
SETS, CHAINS = ("things", "others"), [{"method": "m", "order": 2, "seed": seed} for seed in (0, 5)]
SETTINGS = {"examples": 5, "shots": 2}


def task(name: str) -> pd.DataFrame:
    """Every answer is one that the tiny model may give with the vector."""
    rows = [
        (split, f"{name}-{split}-{i}", "Name it.", f"{split} {name} {i}", ["cold", "small"][i % 2])
        for split in ("train", "validation", "test")
        for i in range(6)
    ]
    return pd.DataFrame(rows, columns=["split", "example_id", "instruction", "input", "target"])


def theta_of(name: str) -> torch.Tensor:
    """Along the output weights of one of the answers, long enough to bring it about in some prompts."""
    (token,) = encode_pairs(tokenizer(), ["Output:"], [" cold"])[0][1]
    return (18 + 4 * SETS.index(name)) * shared("llama").lm_head.weight[token].detach()


def save_adapter(folder: Path, seed: int) -> str:
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(build("llama"), config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sets, their vectors and interventions before training, and two adapters for each of two chains."""
    root = tmp_path_factory.mktemp("chains")
    model = build("llama")
    save_snapshot(root / "model")
    for name in SETS:
        theta = theta_of(name)
        write_tensors(root / f"{name}.safetensors", {"theta": theta})
        task(name).to_parquet(root / f"{name}.parquet")
        settings = {**SETTINGS, "layers": None}
        engine = PrefixEngine(model)
        table = intervention_table(
            engine, tokenizer(), task(name), name, theta, Template(), settings, 0, 10**6
        )
        table.to_parquet(root / f"{name}.interventions.parquet")
    for chain in CHAINS:
        for stage in (1, 2):
            save_adapter(root / f"{chain['seed']}-{stage}", 10 * chain["seed"] + stage)
    return root


def recover(folder: Path, output: Path, adapters: list[str], chain: dict) -> tuple[pd.DataFrame, dict]:
    template = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n"}
    facts = runpy.run_path(str(MAIN))["main"](
        snapshot=str(folder / "model"),
        tasks=[str(folder / f"{name}.parquet") for name in SETS],
        vectors=[str(folder / f"{name}.safetensors") for name in SETS],
        interventions=[str(folder / f"{name}.interventions.parquet") for name in SETS],
        adapters=adapters,
        sets=SETS,
        chain=chain,
        model={"dtype": "float32", "device": "cpu", "gpus": 1},
        settings=SETTINGS,
        prompts={**template, "chat_template": False},
        max_input_tokens=512,
        seed=0,
        batch_tokens=200,
        output=str(output),
    )
    return pd.read_parquet(output), facts


def plain_answers(model, questions, layer: int = -1, vectors: torch.Tensor | None = None) -> list[bool]:
    """One forward pass per question, with a vector added by a hook where there is one."""
    right = []
    for k, question in enumerate(questions):
        prompt, answer = question.context, question.continuations[0]
        if vectors is None:
            right.append(reference.continuation(model, prompt, answer)[1])
            continue
        with reference.shifted_residual(model, layer, len(prompt) - 1, vectors[k]):
            right.append(reference.continuation(model, prompt, answer)[1])
    return right


def test_every_chain_equals_merged_adapters_and_a_hook(folder, tmp_path):
    columns = ["method", "order", "seed", "set", "condition", "layer", "accuracy", "n", "right"]
    accuracies = set()
    for chain in CHAINS:
        adapters = [str(folder / f"{chain['seed']}-{stage}") for stage in (1, 2)]
        table, facts = recover(folder, tmp_path / "recovery.parquet", adapters, chain)
        assert list(table.columns) == columns
        assert len(table) == 2 * 4
        assert set(table.n) == {5}
        accuracies |= {*table.accuracy}
        found = table.set_index(["seed", "set", "condition"])
        model = build("llama")
        for stage in (1, 2):
            path = folder / f"{chain['seed']}-{stage}"
            model = PeftModel.from_pretrained(model, path).merge_and_unload().eval()
        for name in SETS:
            interventions = pd.read_parquet(folder / f"{name}.interventions.parquet")
            layer = best_layer(interventions)
            assert facts["layers"][name] == layer
            asked = split_questions(tokenizer(), task(name), name, Template(), SETTINGS, 0, "test")
            theta = theta_of(name)
            noise = random_vectors(theta, 5, torch.Generator().manual_seed(asked.noise))
            expected = {
                "none": (-1, plain_answers(model, asked.zero_shot)),
                "add": (layer, plain_answers(model, asked.zero_shot, layer, theta.expand(5, -1))),
                "random": (layer, plain_answers(model, asked.zero_shot, layer, noise)),
                "few-shot": (-1, plain_answers(model, asked.few_shot)),
            }
            for condition, values in expected.items():
                row = found.loc[chain["seed"], name, condition]
                assert (row.layer, list(row.right)) == values, (chain, name, condition)
                assert row.accuracy == np.mean(row.right)
    assert len(accuracies) > 2


def test_without_adapters_it_is_what_was_found_before_training(folder, tmp_path):
    table, _ = recover(folder, tmp_path / "recovery.parquet", [], {"method": "m", "order": 1, "seed": 0})
    for name in SETS:
        before = pd.read_parquet(folder / f"{name}.interventions.parquet")
        layer = best_layer(before)
        before = before[(before.split == "test") & before.layer.isin([-1, layer])]
        before = before[(before.condition != "random") | (before.base == "zero-shot")]
        known = before.set_index("condition").accuracy
        now = table[table.set == name].set_index("condition").accuracy
        assert now.to_dict() == {condition: known[condition] for condition in now.index}
