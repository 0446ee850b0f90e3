"""Fixed examples of every set, and one forward and backward pass over them from which all measures are taken.

A probe is some examples of one set: a tree whose trunk is the instruction and whose branches are the
examples, so that the instruction runs once for each probe and no probe sees another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from anamnesis.analyses.mechanisms.routing import routed, routers
from anamnesis.analyses.mechanisms.watching import LastRows, WatchedLayout, last_states, projection_layers
from anamnesis.core.errors import UserError
from anamnesis.data.encoding import end_token
from anamnesis.data.prompts import Template, generator
from anamnesis.engine.examples import Example
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.pack import Pack, Tree, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.vectors.optimised import zero_shot_examples

GRADIENT = 4  # a pass that keeps what a backward pass needs takes so many times the memory


@dataclass(frozen=True)
class Probe:
    """Examples of one set that begin alike. ``name``: of the set."""

    name: str
    examples: tuple[Example, ...]

    def tree(self) -> Tree:
        prefix = self.examples[0].prefix_length
        branches = [[*e.prompt[prefix:], *e.answer[:-1]] for e in self.examples]
        return Tree(self.examples[0].prompt[:prefix], branches)


@dataclass(frozen=True)
class Projection:
    """Input and gradient of the output of one linear layer on one probe, token by token.

    ``inputs`` (n_tokens, in), ``slopes`` (n_tokens, out): their product slopes.T @ inputs is the gradient of
    the weight (out, in).
    """

    inputs: torch.Tensor
    slopes: torch.Tensor


@dataclass(frozen=True)
class Observation:
    """What was seen of one model on some probes. Examples are in the order of the probes, N of them in all.

    ``loss`` (n_probes,): mean cross-entropy per answer token, nats. ``states`` (n_layers, N, hidden_size),
    ``heads`` (n_layers, N, n_heads, head_dim), ``attention`` (n_layers, N, n_heads, longest prompt): residual
    stream behind each layer, head outputs and attention at the last prompt token. ``loads`` (n_routers,
    n_experts): share of each expert in the routing of all tokens, None without experts. ``projections``:
    (layer, name) -> one :class:`Projection` per probe.
    """

    loss: torch.Tensor
    states: torch.Tensor
    heads: torch.Tensor
    attention: torch.Tensor
    loads: torch.Tensor | None
    projections: Mapping[tuple[int, str], Sequence[Projection]]


def draw_probes(
    tasks: Mapping[str, pd.DataFrame], tokenizer, template: Template, probes: int, size: int, seed: int
) -> list[Probe]:
    """``probes`` probes of ``size`` examples for each set, the same for every model. Test rows are not used.

    Examples are drawn from the validation rows, then from the training rows; an answer ends with the
    end-of-text token, as in training. Raises UserError for a set with too few of them.
    """
    end = end_token(tokenizer, template)
    found = []
    for name, task in tasks.items():
        rng = generator(seed, name, "probes")
        examples = zero_shot_examples(task, tokenizer, template, probes * size, rng)
        if len(examples) < probes * size:
            raise UserError(
                f"mechanisms.probes = {probes} of mechanisms.probe_examples = {size} examples each: set "
                f"'{name}' has {len(examples)} besides its test rows; lower one of them"
            )
        if end is not None:
            examples = [replace(e, answer=(*e.answer, end)) for e in examples]
        found += [Probe(name, tuple(examples[k * size : (k + 1) * size])) for k in range(probes)]
    return found


def observe(
    engine: PrefixEngine, probes: Sequence[Probe], names: Sequence[str], batch_tokens: int
) -> Observation:
    """One forward and backward pass over ``probes``, in parts. ``batch_tokens``: tokens of a pass without
    gradients; one with gradients takes fewer.

    ``names``: linear layers of the attention modules whose gradients are wanted. The model is left as it was.
    """
    layers = projection_layers(engine, names)
    longest = max(len(e.prompt) for probe in probes for e in probe.examples)
    trees = [probe.tree() for probe in probes]
    parts: dict[int, _Part] = {}
    with evaluation_mode(engine.model):
        for batch in pack_by_size([tree.size for tree in trees], batch_tokens // GRADIENT):
            chosen = [probes[i] for i in batch]
            pack = Pack(tuple(trees[i] for i in batch))
            for i, part in zip(batch, _observe_batch(engine, chosen, pack, layers, longest), strict=True):
                parts[i] = part
    return _joined([parts[i] for i in range(len(probes))])


@dataclass(frozen=True)
class _Part:
    """The :class:`Observation` of one probe; ``counts`` (n_routers, n_experts) in place of its loads."""

    loss: torch.Tensor
    states: torch.Tensor
    heads: torch.Tensor
    attention: torch.Tensor
    counts: torch.Tensor | None
    projections: dict[tuple[int, str], Projection]


def _observe_batch(engine, probes: Sequence[Probe], pack: Pack, layers, longest: int) -> Iterator[_Part]:
    rows = LastRows.of(pack, [probe.examples for probe in probes], longest)
    watched = WatchedLayout(pack, engine.device, rows)
    experts = routers(engine.model)
    inputs: dict = {}
    outputs: dict = {}
    with ExitStack() as stack:
        for key, module in layers.items():
            stack.callback(module.register_forward_hook(_keeping(key, inputs, outputs)).remove)
        heads = stack.enter_context(captured_heads(engine.geometry, rows.last))
        states = stack.enter_context(last_states(engine.geometry, rows.last))
        counts = stack.enter_context(routed(experts))
        with torch.enable_grad():
            logits = engine.run_in(pack, watched, rows.answers)
    wanted = [torch.tensor([t for e in p.examples for t in e.answer]).to(logits.device) for p in probes]
    scores = logits.float().split([len(w) for w in wanted])
    losses = [cross_entropy(s, w) for s, w in zip(scores, wanted, strict=True)]
    slopes = dict(zip(outputs, torch.autograd.grad(sum(losses), list(outputs.values())), strict=True))
    heads, states, attention = (
        torch.stack([x.detach().float().cpu() for x in found]) for found in (heads, states, watched.attention)
    )
    at = 0
    for t, probe in enumerate(probes):
        n, tokens = len(probe.examples), slice(pack.starts[t], pack.starts[t] + pack.trees[t].size)
        kept = {
            key: Projection(inputs[key][0, tokens].float().cpu(), slopes[key][0, tokens].float().cpu())
            for key in layers
        }
        load = torch.stack([c[tokens].sum(0) for c in counts]).double() if counts else None
        here = slice(at, at + n)
        yield _Part(losses[t].detach().cpu(), states[:, here], heads[:, here], attention[:, here], load, kept)
        at += n


def _keeping(key, inputs: dict, outputs: dict):
    """A hook that keeps what enters and leaves a linear layer, with gradient in a frozen model too."""

    def hook(module, args, output):
        inputs[key] = args[0].detach()
        outputs[key] = output if output.requires_grad else output.requires_grad_()

    return hook


def _joined(parts: Sequence[_Part]) -> Observation:
    loads = None
    if parts[0].counts is not None:
        total = sum(part.counts for part in parts)
        loads = total / total.sum(-1, keepdim=True)
    return Observation(
        torch.stack([part.loss for part in parts]),
        *(torch.cat([getattr(part, name) for part in parts], 1) for name in ("states", "heads", "attention")),
        loads,
        {key: [part.projections[key] for part in parts] for key in parts[0].projections},
    )
