"""Vectors found by gradient descent: what they do to the answers, against plain forwards of whole texts."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.core.artifacts import read_tensors, write_parquet, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.vectors.instruction import instruction_vector
from anamnesis.vectors.interventions import random_vectors
from anamnesis.vectors.optimised import Optimisation, chosen_layer, optimised_vector, zero_shot_examples

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "build_vectors.py"
PLAN = Optimisation(layer=1, steps=12, batch_size=4, learning_rate=0.3)
LARGEST = 5.0


def examples() -> list[Example]:
    """Six prompts that begin alike, with answers that are the same two tokens or one of them."""
    texts = []
    for seed, length in enumerate([3, 7, 5, 4, 9, 6]):
        prompt = tuple([41, 17, 99, *tiny_models.token_ids(seed, length)[0]])
        texts.append((prompt, (7, 12) if seed % 2 else (7,)))
    return with_shared_prefix(texts)


def plain_loss(model, vector: torch.Tensor, layer: int = 1) -> float:
    """Nats per answer token, each example in a forward pass of its own."""
    block, rows = find_heads(model).blocks[layer], []
    for example in examples():
        first = len(example.prompt) - 1

        def hook(module, args, output, first=first):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[0, first] += vector
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = block.register_forward_hook(hook)
        tokens = torch.tensor([[*example.prompt, *example.answer[:-1]]])
        with torch.no_grad():
            rows.append(model(input_ids=tokens, use_cache=False).logits[0, first:])
        handle.remove()
    wanted = torch.tensor([token for example in examples() for token in example.answer])
    return float(cross_entropy(torch.cat(rows), wanted))


def optimise(model, seed: int = 0, batch_tokens: int = 500, largest: float = LARGEST):
    rng = np.random.default_rng(seed)
    return optimised_vector(PrefixEngine(model), examples(), PLAN, largest, rng, batch_tokens)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_lowers_the_answer_loss_more_than_nothing_and_than_random_vectors(name):
    model = tiny_models.shared(name)
    found = optimise(model)
    none = plain_loss(model, torch.zeros_like(found.theta))
    assert found.before == pytest.approx(none, rel=1e-4)
    assert found.after == pytest.approx(plain_loss(model, found.theta), rel=1e-4)
    assert found.theta.norm() <= LARGEST * (1 + 1e-5)
    noise = random_vectors(found.theta, 5, torch.Generator().manual_seed(0))
    assert found.after < none - 0.5
    assert found.after < min(plain_loss(model, vector) for vector in noise) - 0.3


def test_a_larger_bound_allows_a_lower_loss_and_a_small_one_binds():
    model = tiny_models.shared("llama")
    small, large = optimise(model, largest=0.5), optimise(model)
    assert small.theta.norm() == pytest.approx(0.5, rel=1e-4)
    assert large.after < small.after < small.before


def test_the_seed_decides_and_the_token_budget_does_not():
    model = tiny_models.shared("llama")
    first = optimise(model)
    assert torch.equal(first.theta, optimise(model).theta)
    assert not torch.allclose(first.theta, optimise(model, seed=1).theta, atol=1e-3)
    torch.testing.assert_close(first.theta, optimise(model, batch_tokens=12).theta, atol=1e-3, rtol=1e-3)


def test_the_model_is_left_as_it_was():
    model = tiny_models.build("llama")
    model.lm_head.weight.requires_grad_(False)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = [p.requires_grad for p in model.parameters()]
    optimise(model)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert all(p.grad is None for p in model.parameters())
    assert plain_loss(model, torch.zeros(48)) == plain_loss(tiny_models.shared("llama"), torch.zeros(48))


def test_the_layer_is_the_middle_one_or_one_the_model_has():
    geometry = find_heads(tiny_models.shared("llama"))
    assert [chosen_layer(geometry, layer) for layer in (None, 0, 2)] == [1, 0, 2]
    message = r"^vectors\.optimised\.layer = 3: the model has 3 layers; give one of 0 to 2, or null$"
    with pytest.raises(UserError, match=message):
        chosen_layer(geometry, 3)


def task() -> pd.DataFrame:
    splits = ["train"] * 6 + ["validation"] * 3 + ["test"] * 4
    inputs = [f"{split} {i}" for i, split in enumerate(splits)]
    frame = pd.DataFrame({"split": splits, "input": inputs, "target": "cold", "instruction": "Answer."})
    return frame.assign(example_id=inputs)


@pytest.mark.parametrize(("count", "expected"), [(2, (2, 0)), (5, (3, 2)), (50, (3, 6))])
def test_examples_are_validation_rows_then_training_rows_never_test_rows(count, expected):
    tokenizer = tiny_models.tokenizer()
    found = zero_shot_examples(task(), tokenizer, Template(), count, np.random.default_rng(0))
    texts = [tokenizer.decode(e.prompt) for e in found]
    assert (sum("validation" in t for t in texts), sum("train" in t for t in texts)) == expected
    assert len(set(texts)) == len(texts) == sum(expected)
    assert all(t.startswith("Answer.\n\nInput: ") and t.endswith("\nOutput:") for t in texts)
    assert {tokenizer.decode(e.answer) for e in found} == {" cold"}


def test_a_task_without_rows_to_learn_from_is_refused():
    rows = task().query("split == 'test'")
    with pytest.raises(UserError, match="neither validation nor training examples"):
        zero_shot_examples(rows, tiny_models.tokenizer(), Template(), 5, np.random.default_rng(0))


def test_the_rule_writes_either_vector_to_the_same_place(tmp_path):
    main, model = runpy.run_path(str(SCRIPT))["main"], tiny_models.shared("llama")
    snapshot, geometry = tiny_models.save_snapshot(tmp_path / "model"), find_heads(model)
    mean = torch.randn(geometry.n_layers, geometry.n_heads, geometry.head_dim)
    write_tensors(tmp_path / "mean.safetensors", {"mean": mean, "stream": torch.ones(3)})
    heads = pd.DataFrame({"layer": [0, 2], "head": [1, 3], "selected": True})
    write_parquet(tmp_path / "heads.parquet", heads)
    write_parquet(tmp_path / "task.parquet", task())
    output = str(tmp_path / "vector.safetensors")
    settings = {"layer": None, "steps": 3, "batch_size": 4, "learning_rate": 0.1, "norm": 0.5}
    settings |= {"examples": 5, "seed": 0, "prompts": {"separator": "\n\n"}, "max_input_tokens": 200}
    thetas = []
    for tables, optimised in (([], None), ([str(tmp_path / "task.parquet")], settings)):
        facts = main(
            snapshot=str(snapshot),
            heads=str(tmp_path / "heads.parquet"),
            means=[str(tmp_path / "mean.safetensors")],
            tables=tables,
            tasks=["cold"],
            model={"dtype": "float32", "device": "cpu"},
            optimised=optimised,
            batch_tokens=200,
            vectors=[output],
        )
        thetas.append(read_tensors(output)["theta"])
    torch.testing.assert_close(thetas[0], instruction_vector(geometry, mean, [(0, 1), (2, 3)]))
    assert thetas[1].shape == thetas[0].shape
    assert 0 < thetas[1].norm() <= 0.5 * thetas[0].norm() * (1 + 1e-5)
    without, with_vector = facts["answer_loss_without_and_with"]["cold"]
    assert with_vector < without
