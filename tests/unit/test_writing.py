"""What heads add to the residual stream where a norm or a constant stands behind the output projection."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import (
    Exaone4Config,
    Exaone4ForCausalLM,
    Glm4Config,
    Glm4ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
)

import reference
from anamnesis.analyses.checkpoints.vector_drift import head_vectors
from anamnesis.analyses.outputs import scored_outputs
from anamnesis.core.artifacts import read_tensors, write_parquet
from anamnesis.engine.heads import find_heads
from anamnesis.engine.hooks import added_to_attention
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.training.controls import random_vectors
from anamnesis.training.guidance import norm
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.instruction import instruction_vector, warn_if_negligible
from tiny_models import ARCHITECTURES, BUILDERS, GROUPED, drawn, save_snapshot, shared, token_ids

NORMED = {
    "gemma2": BUILDERS["gemma2"],
    "gemma3": BUILDERS["gemma3"],
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**GROUPED)),
    "glm4": lambda: Glm4ForCausalLM(Glm4Config(**GROUPED, head_dim=12)),
    "exaone4": lambda: Exaone4ForCausalLM(Exaone4Config(**GROUPED, sliding_window=4)),
}
SCALED = {"granite": lambda: GraniteForCausalLM(GraniteConfig(**GROUPED, residual_multiplier=0.22))}
MADE = {**NORMED, **SCALED, "llama": BUILDERS["llama"], "qwen3": BUILDERS["qwen3"]}
HEADS = [(2, 3), (0, 1), (1, 0)]
PROMPTS = token_ids(3, 9, 6, 12)


def asked(prompts=PROMPTS) -> list[Question]:
    return [Question(prompt, [[5]]) for prompt in prompts]


def attention_alone(name: str) -> torch.nn.Module:
    """A model whose layers add nothing to the stream but what the attention writes."""
    model = drawn(MADE[name]())
    for part, module in model.named_modules():
        if part.endswith("down_proj"):
            module.weight.data.zero_()
    return model


def streams(model, prompt) -> torch.Tensor:
    """(n_layers + 1, hidden_size): the stream before, between and after the layers, at the last token."""
    seen = []
    layers = reference.blocks(model)
    handles = [layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0][0, -1]))]
    for layer in layers:
        handles.append(layer.register_forward_hook(lambda module, args, out: seen.append(first(out)[0, -1])))
    with torch.no_grad():
        reference.logits(model, prompt)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", MADE)
def test_heads_write_what_the_stream_grows_by(name):
    model = attention_alone(name)
    engine = PrefixEngine(model)
    found = mean_head_activations(engine, asked(PROMPTS[:1]), 100)
    stream = streams(model, PROMPTS[0])
    for layer in range(engine.geometry.n_layers):
        written = engine.geometry.written(layer, found.mean[layer], found.scale)
        torch.testing.assert_close(written.sum(0), stream[layer + 1] - stream[layer], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.stream, stream[1:].norm(dim=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NORMED)
def test_vector_has_the_norms_at_their_mean_over_the_prompts(name):
    """theta = sum of g * W_O h / rms, with 1 / rms averaged over the prompts that h is averaged over."""
    model = drawn(NORMED[name]())
    engine, seen = PrefixEngine(model), {}
    found = mean_head_activations(engine, asked(), 30)  # several batches
    norms = engine.geometry.writing.norms
    handles = [
        module.register_forward_hook(
            lambda module, args, out: seen.setdefault(module, []).append(args[0][0, -1])
        )
        for module in norms
    ]
    with torch.no_grad():
        for prompt in PROMPTS:
            reference.logits(model, prompt)
    for handle in handles:
        handle.remove()
    expected = torch.zeros(engine.geometry.hidden_size)
    for layer, head in HEADS:
        rms = torch.stack([x.square().mean().sqrt() for x in seen[norms[layer]]])
        gain = norms[layer].weight.detach() + (1 if name.startswith("gemma") else 0)
        slices = reference.projections(model)[layer].weight.detach().unflatten(1, found.mean.shape[1:])
        expected += gain * (slices[:, head] @ found.mean[layer, head]) * (1 / rms).mean()
    theta = instruction_vector(engine.geometry, found.mean, HEADS, found.scale)
    torch.testing.assert_close(theta, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        head_vectors(engine.geometry, found.mean, found.scale)[tuple(zip(*HEADS, strict=True))].sum(0), theta
    )
    _, _, scales = scored_outputs(engine, asked(), 30)
    torch.testing.assert_close(scales.mean(0), found.scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_models_write_the_output_of_the_projection(name):
    writing = find_heads(shared(name)).writing
    assert writing.gains == (None,) * len(writing.gains)
    assert writing.normed == (name in NORMED)


def test_a_vector_without_the_norms_scale_is_no_vector():
    geometry = find_heads(drawn(NORMED["olmo2"]()))
    with pytest.raises(ValueError, match="needs the scale"):
        instruction_vector(geometry, torch.ones(3, 4, 12), HEADS)


@torch.no_grad()
@pytest.mark.parametrize("name", MADE)
def test_a_vector_added_to_the_attention_arrives_in_the_stream(name):
    model = attention_alone(name)
    geometry, vector = find_heads(model), torch.randn(48, generator=torch.Generator().manual_seed(1))
    before = streams(model, PROMPTS[0])
    with added_to_attention(geometry, 1, vector, [len(PROMPTS[0]) - 1]):
        after = streams(model, PROMPTS[0])
    torch.testing.assert_close(after[2] - before[2], vector, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*NORMED, *SCALED])
def test_random_vectors_are_as_long_in_the_stream_as_those_of_the_heads(name):
    engine = PrefixEngine(drawn(MADE[name]()))
    found, geometry = mean_head_activations(engine, asked(), 100), engine.geometry
    random = random_vectors(geometry, found.mean, HEADS, torch.Generator().manual_seed(2), found.scale)
    for layer, head in HEADS:
        lengths = [geometry.written(layer, x[layer], found.scale)[head].norm() for x in (random, found.mean)]
        torch.testing.assert_close(*lengths, rtol=1e-4, atol=1e-5)
    whole = [norm(geometry, {layer: x[layer] for layer in range(3)}, found.scale) for x in (found.mean,)]
    parts = head_vectors(geometry, found.mean, found.scale)[:3]
    assert whole[0] == pytest.approx(float(parts.norm()), rel=1e-5)


def test_a_watched_model_is_left_as_it_was():
    model = drawn(NORMED["olmo2"]())
    before = reference.logits(model, PROMPTS[0])
    find_heads(model)
    assert reference.hook_count(model) == 0
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(reference.logits(model, PROMPTS[0]), before)


@pytest.mark.parametrize(("length", "warned"), [(0.1, True), (2.0, False)])
def test_a_vector_that_drowns_in_the_stream_is_reported(length, warned, caplog):
    with caplog.at_level(logging.WARNING):
        warn_if_negligible(torch.tensor([0.0, length]), torch.tensor([40.0, 10.0, 90.0]), "antonym")
    assert [record.message for record in caplog.records] == (
        [
            "antonym: the instruction vector has a length of 0.1, 1 % of the residual stream's where that is "
            "shortest: adding or removing it changes next to nothing in this model"
        ] if warned else []
    )  # fmt: skip


def test_rows_of_many_prompts_have_scales_of_their_own():
    engine = PrefixEngine(shared("gemma3"))
    together = mean_head_activations(engine, asked(), 10**6).scale
    alone = [mean_head_activations(engine, [question], 100).scale for question in asked()]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    assert engine.run(Pack((Tree(PROMPTS[0]),)), [0]).isfinite().all()


@pytest.mark.parametrize("name", ["gemma3", "llama"])
def test_the_rules_hand_the_scales_on(name, tmp_path):
    """From the activations of a task to its vector, through files."""
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    average, build = (
        runpy.run_path(str(scripts / f"{script}.py"))["main"]
        for script in ("average_activations", "build_vectors")
    )
    snapshot, files = str(save_snapshot(tmp_path / "model", name)), tmp_path
    splits = ["train"] * 6 + ["validation"] * 6
    rows = pd.DataFrame({"split": splits, "input": [f"big {i}" for i in range(12)], "target": "cold"})
    rows["example_id"] = rows.input
    write_parquet(files / "task.parquet", rows.assign(instruction="Answer.", choices=None, label=None))
    write_parquet(files / "heads.parquet", pd.DataFrame({"layer": [0, 2], "head": [1, 3], "selected": True}))
    model, mean = {"dtype": "float32", "device": "cpu"}, str(files / "mean.safetensors")
    vectors = {"shots": 2, "activation_prompts": 5, "effect_prompts": 1, "include_instruction": True}
    average(
        snapshot, str(files / "task.parquet"), "cold", model, vectors, {"separator": "\n\n"}, 200, 0, 200,
        str(files / "prompts.parquet"), mean,
    )  # fmt: skip
    output = str(files / "vector.safetensors")
    build(
        snapshot, str(files / "heads.parquet"), [mean], [], ["cold"], model, None, 200, [output]
    )  # fmt: skip
    stored, geometry = read_tensors(mean), find_heads(shared(name))
    assert ("scale" in stored) == geometry.writing.normed == (name == "gemma3")
    expected = instruction_vector(geometry, stored["mean"], [(0, 1), (2, 3)], stored.get("scale"))
    torch.testing.assert_close(read_tensors(output)["theta"], expected)
