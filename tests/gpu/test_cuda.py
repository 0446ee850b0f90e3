"""The same numbers on a GPU as by plain passes and as on the CPU, in float32.

What a GPU is compared with runs on the CPU of every machine too: where there is one, only the device is new.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch

import reference
import tiny_models
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.heads import find_heads
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.models.adapters import add_lora
from anamnesis.training.build import build
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from tiny_models import ARCHITECTURES, token_ids

START, *TRUNKS = token_ids(1, 6, 11, 17, 5, 9)
FORKS = token_ids(2, 3, 1, 6)
QUESTIONS = [Question(trunk, token_ids(40 + i, 1 + i % 3)) for i, trunk in enumerate(TRUNKS)]
IDS = ["b", "a", "d", "c"]
ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
TEACHERS = {"plain": None, "current": "current", "previous": "previous"}


def on_devices(*names: str) -> list:
    """Every architecture on the GPU, and these on the CPU too."""
    both = [pytest.param(name, "cpu", id=f"{name}-cpu") for name in names]
    gpu = [
        pytest.param(name, "cuda", id=f"{name}-cuda", marks=pytest.mark.gpu)
        for name in (*ARCHITECTURES, "deepseek")
    ]
    return both + gpu


def engine_of(name: str, device: str) -> PrefixEngine:
    return PrefixEngine(tiny_models.build(name).to(device))


def mean_of(engine: PrefixEngine) -> torch.Tensor:
    geometry = engine.geometry
    shape = (geometry.n_layers, geometry.n_heads, geometry.head_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("name", "device"), on_devices("llama"))
@torch.no_grad()
def test_packed_trees_equal_plain_passes(name, device):
    engine = engine_of(name, device)
    prefix = engine.prefill(START)
    pack = Pack(tuple(Tree(trunk, FORKS) for trunk in TRUNKS), prefix)
    found = engine.run(pack, range(pack.size))
    assert found.device.type == device
    for t, trunk in enumerate(TRUNKS):
        for b, fork in enumerate(FORKS):
            start = pack.branch_start(t, b)
            plain = reference.logits(engine.model, [*START, *trunk, *fork])[-len(fork) :]
            reference.close(found[start : start + len(fork)], plain)


def two_ways(name: str, device: str) -> Iterator[tuple[Pack, PrefixEngine]]:
    """The same pack for FlexAttention and for the grouped attention."""
    model = tiny_models.build(name).to(device)
    trees = tuple(Tree(trunk, FORKS, tuple(START) * (i % 2)) for i, trunk in enumerate(TRUNKS))
    pack = Pack(trees, PrefixEngine(model).prefill(QUESTIONS[0].context))
    for attention in ("flex", "grouped"):
        model.zero_grad()
        yield pack, PrefixEngine(model, attention=attention)


@pytest.mark.parametrize(("name", "device"), on_devices("llama", "gemma2"))
@torch.no_grad()
def test_flex_attention_gives_the_grouped_logits(name, device):
    torch.compiler.reset()
    reference.close(*(engine.run(pack, range(pack.size)) for pack, engine in two_ways(name, device)))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gemma2", "gemma3", "qwen3", "neox"])  # with heads of 16 numbers or more
def test_flex_attention_gives_the_grouped_gradients(name):
    torch.compiler.reset()
    found = []
    for pack, engine in two_ways(name, "cuda"):
        engine.run(pack, range(pack.size)).log_softmax(-1).square().mean().backward()
        found.append([p.grad for p in engine.model.parameters()])
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(("name", "device"), on_devices("llama"))
def test_effects_equal_one_forward_per_head(name, device):
    engine = engine_of(name, device)
    mean = mean_of(engine)
    found = causal_effects(engine, QUESTIONS, IDS, mean, batch_tokens=90)
    if name == "deepseek":  # the plain reference takes keys and values to be of one width
        on_cpu = causal_effects(engine_of(name, "cpu"), QUESTIONS, IDS, mean, batch_tokens=90)
        assert (found.p_patched - on_cpu.p_patched).abs().max() <= 1e-5
        return
    plain = reference.causal_effects(engine.model, QUESTIONS, IDS, mean.to(device), "full")
    assert (found.p_patched - np.exp(plain.log_patched)).abs().max() <= 1e-5
    assert found.log_effect.abs().max() > 0.1


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("shards", [2, 9])
def test_shards_together_are_the_whole(device, shards):
    engine = engine_of("llama", device)
    mean = mean_of(engine)
    whole = causal_effects(engine, QUESTIONS, IDS, mean, batch_tokens=40)
    parts = [causal_effects(engine, QUESTIONS, IDS, mean, 40, shard=k, shards=shards) for k in range(shards)]
    joined = pd.concat(parts, ignore_index=True).sort_values(
        ["prompt_id", "layer", "head"], ignore_index=True
    )
    pd.testing.assert_frame_equal(joined, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "device"), on_devices("llama"))
def test_means_scores_and_answers_equal_those_on_the_cpu(name, device):
    here, cpu = engine_of(name, device), engine_of(name, "cpu")
    prompts = [[*START, *trunk] for trunk in TRUNKS]
    asked = [Question(p, FORKS) for p in prompts]
    answers, means, scores = [], [], []
    for engine in (here, cpu):
        answers += generate(engine, [Request(prompts, 8)], lambda ids: False, 10**6)
        means.append(mean_head_activations(engine, asked, 60).mean)
        scores.append(torch.tensor([s.log_probability for s in score_questions(engine, asked, 60)]))
    assert answers[0] == answers[1]
    torch.testing.assert_close(means[0], means[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def move(parameters: list[torch.nn.Parameter], seed: int) -> None:
    """Other weights, drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def step_of(name: str, device: str, teacher: str | None) -> tuple[float, list[torch.Tensor]]:
    """Value and gradient of a training step, on the CPU."""
    targets = {"gpt2": ["c_attn"], "neox": ["query_key_value"], "phi3": ["qkv_proj"]}
    targets = targets.get(name, ["o_proj"] if name == "deepseek" else ["q_proj", "v_proj"])
    lora = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": targets}
    model = add_lora(tiny_models.build(name), lora, seed=1)
    trained = [p for p in model.parameters() if p.requires_grad]
    move(trained, seed=2)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    engine = PrefixEngine(model.to(device).train(), find_heads(model))
    examples = with_shared_prefix(
        [((*START, *trunk), tuple(fork)) for trunk, fork in zip(TRUNKS, FORKS, strict=False)]
    )
    objective = Objective()
    if teacher:
        stage = Stage(engine, None, 1, examples, {}, {}, seed=0, batch_tokens=40)
        mean = mean_of(engine)
        additions = {layer: mean[layer] for layer in (0, 2)}
        guidance = {"kl": {"teacher": teacher}, "schedule": "linear", "plateau": 0.25, "intervention": True}
        _, objective = build("inclora", stage, guidance, additions)
    move(trained, seed=3)  # away from the model before the stage
    loss = objective(engine, Batch(tuple(examples)), 0.3).total
    loss.backward()
    return loss.item(), [p.grad.cpu() for p in trained]


@pytest.mark.gpu
@pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, "deepseek"])
def test_training_steps_equal_those_on_the_cpu(name, teacher):
    (value, gradient), (on_cpu, expected) = (step_of(name, device, teacher) for device in ("cuda", "cpu"))
    assert value == pytest.approx(on_cpu, rel=1e-5)
    for ours, theirs in zip(gradient, expected, strict=True):
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_training_steps_differ_by_their_teacher():
    """What the comparison above compares is not the same number three times."""
    assert len({step_of("llama", "cpu", teacher)[0] for teacher in TEACHERS.values()}) == 3
