"""Is it right? The engine against plain forward passes, and bfloat16 against float32."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from _common import REPOSITORY, Line
from _gpu_machine import Machine, answered, random_llama, random_prompts

sys.path.insert(0, str(REPOSITORY / "tests"))

import reference
import tiny_models
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects

FAMILIES = (*tiny_models.ARCHITECTURES, "deepseek")
SAME_P, SAME_LOGITS = 1e-5, 1e-4
TOP = 10
RANKS, SHARED_TOP = 0.9, 7  # bars: rank correlation, and heads that both put among the first ten
MEDIUM = {
    "vocab_size": 8000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 1024,
}
SMALL = {
    **MEDIUM,
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}


def families(machine: Machine) -> Iterator[Line]:
    """In float32, for each family of models: logits of packed trees, effects of all heads, greedy answers."""
    for name in FAMILIES[:3] if machine.small else FAMILIES:
        engine = PrefixEngine(tiny_models.build(name).to(machine.device))
        yield Line(f"{name}: engine - naive, logits", _logits(engine), "of max", SAME_LOGITS, False)
        if name == "deepseek":  # the plain reference takes keys and values to be of one width
            continue
        gap, note = _effects(engine)
        yield Line(f"{name}: engine - naive, P after each head", gap, "", SAME_P, False, note)
        yield Line(f"{name}: greedy answers unlike naive ones", _answers(engine), "answers", 0, False)


@torch.no_grad()
def _logits(engine: PrefixEngine) -> float:
    """Largest difference from plain forward passes, as a share of the largest logit."""
    trunks, forks = tiny_models.token_ids(1, 11, 17, 5), tiny_models.token_ids(2, 3, 1, 6)
    pack = Pack(tuple(Tree(trunk, forks) for trunk in trunks))
    found, worst = engine.run(pack, range(pack.size)), 0.0
    for t, trunk in enumerate(trunks):
        for b, fork in enumerate(forks):
            start = pack.branch_start(t, b)
            plain = reference.logits(engine.model, [*trunk, *fork])[len(trunk) :]
            gap = (found[start : start + len(fork)] - plain).abs().max() / plain.abs().max()
            worst = max(worst, float(gap))
    return worst


def _questions() -> list[Question]:
    """Prompts of unlike lengths with targets of one to three tokens."""
    prompts = tiny_models.token_ids(3, 12, 7, 19, 9)
    return [Question(p, tiny_models.token_ids(40 + i, 1 + i % 3)) for i, p in enumerate(prompts)]


def _effects(engine: PrefixEngine) -> tuple[float, str]:
    mean = torch.randn(reference.head_shape(engine.model), generator=torch.Generator().manual_seed(3))
    asked, names = _questions(), list("abcd")
    found = causal_effects(engine, asked, names, mean, batch_tokens=90)
    plain = reference.causal_effects(engine.model, asked, names, mean.to(engine.device), "full")
    gap = (found.p_patched - np.exp(plain.log_patched)).abs().max()
    return float(gap), f"effects up to {found.effect.abs().max():.1g}"


def _answers(engine: PrefixEngine) -> int:
    start, *ends = tiny_models.token_ids(5, 8, 13, 3, 9)
    prompts = [[*start, *end] for end in ends]
    (found,) = generate(engine, [Request(prompts, 8)], lambda ids: False, 10**6)
    plain = [reference.greedy(engine.model, prompt, 8) for prompt in prompts]
    return sum(a != b for a, b in zip(found, plain, strict=True))


def rankings(machine: Machine) -> Iterator[Line]:
    """Do both types rank the heads alike? A Llama of medium size, then the tiny models."""
    shape = SMALL if machine.small else MEDIUM
    full = random_llama(machine, torch.float32, **shape)
    count, tokens = (8, 24) if machine.small else (32, 200)
    prompts = random_prompts([tokens + i % 7 for i in range(2 * count)], shape["vocab_size"], machine.seed)
    heads = shape["num_hidden_layers"] * shape["num_attention_heads"]
    correlation, shared, noise = _agreement(full, prompts[:count], prompts[count:])
    what, note = f"{heads} heads, bfloat16 and float32", f"median error of an effect {noise:.1%}"
    yield Line(f"{what}: rank correlation", correlation, "", RANKS, True, note)
    yield Line(f"{what}: of the first {TOP} shared", shared, "heads", SHARED_TOP)
    for name in FAMILIES[:2] if machine.small else FAMILIES[:-1]:
        prompts = tiny_models.token_ids(7, *[20] * 16)
        model = tiny_models.build(name).to(machine.device)
        correlation, _, noise = _agreement(model, prompts[:8], prompts[8:])
        note = f"median error of an effect {noise:.1%}"
        yield Line(f"{name}, bfloat16 and float32: rank correlation", correlation, "", RANKS, True, note)


def _agreement(full, first: list[list[int]], second: list[list[int]]) -> tuple[float, int, float]:
    """(Spearman's rank correlation of the heads' mean effects, heads that both have among their first ten,
    median relative difference of an effect). ``first``: prompts for the mean activations, ``second``: for the
    effects.
    """
    engine = PrefixEngine(full)
    asked = answered(engine, second)
    mean = mean_head_activations(engine, answered(engine, first), 10**5).mean
    half = copy.deepcopy(full)
    for parameter in half.parameters():  # not the tables of positions: loading a model leaves them in float32
        parameter.data = parameter.data.to(torch.bfloat16)
    effects = [_mean_effects(e, asked, mean) for e in (engine, PrefixEngine(half))]
    ranks = [e.rank() for e in effects]
    best = [set(e.nsmallest(TOP).index) for e in effects]  # heads that matter lower P of the likeliest token
    noise = ((effects[1] - effects[0]).abs() / effects[0].abs()).median()
    return float(ranks[0].corr(ranks[1])), len(best[0] & best[1]), float(noise)


def _mean_effects(engine: PrefixEngine, asked: list[Question], mean: torch.Tensor) -> pd.Series:
    """Mean change of the log-probability, by (layer, head)."""
    names = [f"{i:03}" for i in range(len(asked))]
    frame = causal_effects(engine, asked, names, mean, batch_tokens=20_000)
    return frame.groupby(["layer", "head"]).log_effect.mean()
