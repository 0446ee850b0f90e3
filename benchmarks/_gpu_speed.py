"""How fast is it? The sweep over all heads of a 7B model against one full forward per head, the share of the
device's matrix rate that it reaches, and training steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from _common import Line
from _gpu_machine import Machine, answered, random_llama, random_prompts
from _steps import BATCH, LORA, step_lines, step_sides, with_teacher
from sweep import naive_probabilities
from torch import nn

from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects

LLAMA_2_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
SMALL = {
    **LLAMA_2_7B,
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
FASTER, PREFILL_SHARE, BRANCH_SHARE = 300, 0.40, 0.25  # bars
HEADS = 16  # timed on the slow side, spread over the layers
TOGETHER = 8  # prompts of one slow forward, for orientation
REPEATS = 5  # matrix products in a row
SPREAD = 15  # tokens by which prompts are longer or shorter than asked for


@dataclass(frozen=True)
class Sizes:
    """Tokens of a prompt, prompts of a pass (the last has the bars), and sides of the matrix products."""

    tokens: int
    batches: tuple[int, ...]
    matrices: tuple[int, ...]
    examples: int


def sizes(machine: Machine) -> Sizes:
    if machine.small:
        return Sizes(40, (1, 3), (64, 128), 16)
    return Sizes(500, (1, 4, 16, 32), (2048, 4096, 8192, 16384), 200)


def seven_billion(machine: Machine) -> nn.Module:
    """A model of the shape of Llama-2-7B with random weights in bfloat16, made on the device."""
    return random_llama(machine, torch.bfloat16, **(SMALL if machine.small else LLAMA_2_7B))


def matrix_rate(machine: Machine) -> float:
    """FLOP/s of the best of several square products in bfloat16, on random numbers."""
    best = 0.0
    for n in sizes(machine).matrices:
        a, b = (torch.randn(n, n, device=machine.device, dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(a)

        def work(a=a, b=b, out=out):
            for _ in range(REPEATS):
                torch.mm(a, b, out=out)

        seconds = machine.timed({"product": work}, rounds=5)["product"] / REPEATS
        best = max(best, 2 * n**3 / seconds)
    return best


def sweep(machine: Machine, model: nn.Module, rate: float) -> Iterator[Line]:
    """The sweep for several numbers of prompts at once, against the slow form in the same rounds."""
    asked, engine, size = sizes(machine), PrefixEngine(model), sizes(machine)
    vocabulary, rng = model.config.vocab_size, np.random.default_rng(machine.seed)
    lengths = [
        asked.tokens,
        *(asked.tokens + rng.integers(-SPREAD, SPREAD + 1, max(size.batches) - 1)).tolist(),
    ]
    questions = answered(engine, random_prompts(lengths, vocabulary, machine.seed))
    mean = mean_head_activations(engine, questions, 10**5).mean
    sample = _sample(engine)

    def swept(count: int):
        names = [f"{i:03}" for i in range(count)]
        return causal_effects(engine, questions[:count], names, mean, 10**9, target="first_token")

    sides = {f"sweep {count}": (lambda count=count: swept(count)) for count in size.batches}
    sides["naive"] = lambda: naive_probabilities(engine, questions[0], mean, sample)
    sides["naive together"] = lambda: _together(engine, questions)
    sides["prefill"] = lambda: prefill(engine, questions)
    seconds = machine.timed(sides)
    yield from _against_naive(machine, engine, questions, seconds, swept, mean, sample)
    yield from _shares(machine, engine, questions, seconds, rate)


def _sample(engine: PrefixEngine) -> list[tuple[int, int]]:
    heads = [(layer, h) for layer in range(engine.geometry.n_layers) for h in range(engine.geometry.n_heads)]
    return [heads[i] for i in np.linspace(0, len(heads) - 1, min(HEADS, len(heads))).round().astype(int)]


def _against_naive(machine, engine, questions, seconds, swept, mean, sample) -> Iterator[Line]:
    total, batches = engine.geometry.n_layers * engine.geometry.n_heads, sizes(machine).batches
    naive = seconds["naive"] / len(sample) * total
    tokens = len(questions[0].context)
    note = f"extrapolated from {len(sample)} of {total} heads"
    yield Line(f"one full forward per head, {tokens} tokens", naive, "s/prompt", note=note)
    together = seconds["naive together"] / TOGETHER * total
    yield Line(f"the same, {TOGETHER} at once", together, "s/prompt", note="for orientation")
    for count in batches:
        each = seconds[f"sweep {count}"] / count
        peak = machine.peak(lambda count=count: swept(count))
        yield Line(f"sweep, {count} prompts at once", each, "s/prompt", note=f"peak {peak:.1f} GB")
        bar = machine.speed(FASTER) if count == batches[-1] else None
        yield Line(f"one full forward per head / sweep of {count}", naive / each, "x", bar)
    found = swept(1).set_index(["layer", "head"])
    plain = naive_probabilities(engine, questions[0], mean, sample)
    gap = max(abs(found.p_patched[pair] - p) for pair, p in zip(sample, plain, strict=True))
    note = f"bfloat16; clean P {found.p_clean.iloc[0]:.2g}, effects up to {found.effect.abs().max():.1g}"
    yield Line("largest difference in P from the slow form", gap, "", note=note)


def _shares(machine, engine, questions, seconds, rate: float) -> Iterator[Line]:
    """FLOP/s of the prompts' own pass, and of what the sweep takes beyond it."""
    count = sizes(machine).batches[-1]
    below, branches = work_of_sweep(engine, [len(q.context) for q in questions])
    first, rest = seconds["prefill"], seconds[f"sweep {count}"] - seconds["prefill"]
    for what, flop, time, bar in (
        ("prefill", below, first, PREFILL_SHARE),
        ("branches", branches, rest, BRANCH_SHARE),
    ):
        note = f"{flop / time / 1e12:.3g} TFLOP/s, {time / count * 1e3:.3g} ms a prompt"
        yield Line(
            f"{what}: share of the matrix rate", flop / time / rate, "", machine.speed(bar), True, note
        )


@torch.no_grad()
def _together(engine: PrefixEngine, questions) -> torch.Tensor:
    """One full forward of several copies of a prompt: the slow form, with heads in batches."""
    tokens = torch.tensor([list(questions[0].context)] * TOGETHER, device=engine.device)
    return engine.model(tokens, use_cache=False).logits


@torch.no_grad()
def prefill(engine: PrefixEngine, questions) -> torch.Tensor:
    """The prompts alone, as the sweep runs them."""
    pack = Pack(tuple(Tree(q.context) for q in questions))
    return engine.run(pack, [pack.trunk_end(t) for t in range(len(questions))])


def work_of_sweep(engine: PrefixEngine, lengths: list[int]) -> tuple[int, int]:
    """(FLOP of the prompts, FLOP of the born rows): a multiplication and an addition count as two.

    Matrix products of the layers, attention scores and mixtures, and the output head where it is asked.
    """
    geometry, head = engine.geometry, engine.model.get_output_embeddings().weight.numel()
    linear = [
        sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
        for block in geometry.blocks
    ]
    width = geometry.n_heads * geometry.head_dim
    prompts = born = 0
    for n in lengths:
        prompts += 2 * n * sum(linear) + 2 * n * (n + 1) * width * geometry.n_layers + 2 * head
        rows = [geometry.n_heads * (layer + 1) for layer in range(geometry.n_layers)]
        born += sum(r * (2 * w + 4 * n * width) for r, w in zip(rows, linear, strict=True))
        born += 2 * head * geometry.n_layers * geometry.n_heads
    return prompts, born


def training(machine: Machine, model: nn.Module) -> Iterator[Line]:
    """A guided step against the plain one, on the same model with an adapter."""
    tuned = add_lora(model, LORA, machine.seed).train()
    examples = _examples(machine, model.config.vocab_size)
    sides, batch = step_sides(tuned, examples, None, 2048 if machine.small else 16384)
    teacher = sides.pop("teacher")
    peak = machine.peak(sides["previous model, all positions"])
    seconds = machine.timed(sides) | machine.timed({"teacher": teacher})
    tokens = sum(len(e.prompt) + len(e.answer) - 1 for e in batch.examples)
    note = f"{BATCH} examples, {tokens} tokens, peak {peak:.1f} GB"
    yield from step_lines("LoRA", with_teacher(seconds, len(examples)), note, with_bar=not machine.small)


def _examples(machine: Machine, vocabulary: int) -> list[Example]:
    """Prompts that begin alike, with inputs and answers of unlike lengths."""
    rng, own = np.random.default_rng(machine.seed), (8, 20) if machine.small else (40, 120)
    beginning = rng.integers(1, vocabulary, 10 if machine.small else 30).tolist()
    texts = []
    for _ in range(sizes(machine).examples):
        middle, answer = (rng.integers(1, vocabulary, rng.integers(*span)).tolist() for span in (own, (2, 7)))
        texts.append(((*beginning, *middle), tuple(answer)))
    return with_shared_prefix(texts)
