"""Grouped attention and FlexAttention on the same packs: do they agree, and which is faster?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from _common import Line
from _gpu_checks import SAME_LOGITS, tiny_models
from _gpu_machine import Machine, random_prompts
from torch import nn

from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import ATTENTION, PrefixEngine

WIDE = ("gemma2", "gemma3", "qwen3", "neox")  # of the tiny models, those with heads of 16 numbers or more
PROMPTS, LONG, SHORT = (16, 8), 500, 150  # prompts of a pack (forward, with gradient), their tokens
BRANCHES, ANSWER = 4, 12  # branches of a prompt, tokens of each


def agreement(machine: Machine) -> Iterator[Line]:
    """In float32: logits and gradients of packed trees, with a cached prefix and with prefixes of trees."""
    start, first, *trunks = tiny_models.token_ids(1, 9, 7, 11, 17, 5)
    forks = tiny_models.token_ids(2, 3, 1, 6)
    trees = tuple(Tree(trunk, forks, tuple(first) * (i % 2)) for i, trunk in enumerate(trunks))
    for name in WIDE[:1] if machine.small else WIDE:
        torch.compiler.reset()  # torch compiles a function for eight models or shapes, and no more
        model = tiny_models.build(name).to(machine.device)
        engines = {way: PrefixEngine(model, attention=way) for way in ATTENTION}
        pack = Pack(trees, engines["grouped"].prefill(start))
        for what, passes in (("logits", _logits), ("gradient", _gradient)):
            gap = _gap(*(passes(engines[way], pack) for way in ("flex", "grouped")))
            note = _note(machine, passes)
            yield Line(f"{name}: FlexAttention - grouped, {what}", gap, "of max", SAME_LOGITS, False, note)


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _note(machine: Machine, passes: Callable) -> str:
    return "both grouped: a CPU has no gradient of FlexAttention" * (
        passes is _gradient and machine.device.type == "cpu"
    )


def attention(machine: Machine, model: nn.Module) -> Iterator[Line]:
    """Passes of the large model: prompts, prompts with branches, and these with gradient."""
    torch.compiler.reset()
    forward, backward = (2, 2) if machine.small else PROMPTS
    long, short = (30, 20) if machine.small else (LONG, SHORT)
    branched = _pack(machine, model, forward, long, BRANCHES)
    yield from _compared(machine, model, "prompts", _pack(machine, model, forward, long, 0), _logits)
    yield from _compared(machine, model, "prompts with branches", branched, _logits)
    trained = _pack(machine, model, backward, short, BRANCHES)
    yield from _compared(machine, model, "the same with gradient", trained, _gradient)


def _compared(machine: Machine, model: nn.Module, what: str, pack: Pack, passes: Callable) -> Iterator[Line]:
    engines = {way: PrefixEngine(model, attention=way) for way in ATTENTION}
    sides = {way: (lambda engine=engine: passes(engine, pack)) for way, engine in engines.items()}
    seconds = machine.timed(sides)
    for way, side in sides.items():
        note = f"{pack.size} tokens, peak {machine.peak(side):.1f} GB"
        yield Line(f"{what}: {way} attention", seconds[way], "s", note=note)
    gap, faster = _gap(sides["flex"](), sides["grouped"]()), min(seconds, key=seconds.__getitem__)
    notes = [f"{faster} is faster", f"largest difference {gap:.1g} of max", _note(machine, passes)]
    ratio = seconds["grouped"] / seconds["flex"]
    yield Line(f"{what}: grouped / flex attention", ratio, "x", note=", ".join(filter(None, notes)))


def _pack(machine: Machine, model: nn.Module, count: int, tokens: int, branches: int) -> Pack:
    """Prompts of about so many tokens, each with so many branches."""
    vocabulary = model.config.vocab_size
    prompts = random_prompts([tokens - i % 7 for i in range(count)], vocabulary, machine.seed)
    ends = random_prompts([ANSWER - b for b in range(branches)], vocabulary, machine.seed + 1)
    return Pack(tuple(Tree(prompt, ends) for prompt in prompts))


@torch.no_grad()
def _logits(engine: PrefixEngine, pack: Pack) -> torch.Tensor:
    return engine.run(pack, _ends(pack)).float()


def _gradient(engine: PrefixEngine, pack: Pack) -> torch.Tensor:
    """The gradient of the token embeddings, which goes through every layer."""
    weight = engine.model.get_input_embeddings().weight.requires_grad_()
    loss = engine.run(pack, _ends(pack)).float().log_softmax(-1).square().mean()
    (gradient,) = torch.autograd.grad(loss, weight)
    weight.requires_grad_(False)
    return gradient.float()


def _ends(pack: Pack) -> list[int]:
    """The last row of every tree."""
    return [start + tree.size - 1 for start, tree in zip(pack.starts, pack.trees, strict=True)]
