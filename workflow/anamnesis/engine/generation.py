"""Greedy generation: shared prompts computed once, many groups of prompts decoded together, no padding in any
linear layer.

The cost of a decoding step grows far more slowly than the number of its sequences, as the weights are read
anyway. So sequences with different prefixes share their steps, and go apart in the attention only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import accumulate

import torch

from anamnesis.engine.attention import Call, ForestLayout
from anamnesis.engine.block_attention import Block, attend_blocks
from anamnesis.engine.hooks import on_each_device
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Prefix, Tree, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine

Stop = Callable[[list[int]], bool]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """Prompts (token ids, each of at least one) to be continued by at most ``max_new_tokens`` tokens.

    The tokens that all of them begin with run once, so prompts with the same instruction and demonstrations
    belong into one request. ``change_prompt(rows)`` may give a context in which the prompts are run, such as
    ``hooks.added_to_residual``; ``rows`` are the places of the last prompt tokens.
    """

    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    change_prompt: Callable[[list[int]], AbstractContextManager] | None = None


KeysAndValues = tuple[torch.Tensor, torch.Tensor]


def _each(pair: KeysAndValues, change: Callable[[torch.Tensor], torch.Tensor]) -> KeysAndValues:
    return change(pair[0]), change(pair[1])


class Part:
    """What sequences with the same prefix read besides their new tokens: the prefix and their own prompts.
    They are the trees ``chosen`` of a pack.

    The keys and values of the packed forward are gathered into one padded block per layer.
    """

    def __init__(self, pack: Pack, recorded: ForestLayout, chosen: slice):
        device, trees = recorded.keys[0].device, pack.trees[chosen]
        self.prefix = recorded.prefix(trees[0].prefix) if trees[0].prefix else pack.cached
        before = self.prefix.length if self.prefix else 0
        sizes = torch.tensor([tree.size for tree in trees])
        steps = torch.arange(int(sizes.max()))
        index = torch.tensor(pack.starts[chosen])[:, None] + torch.minimum(steps, sizes[:, None] - 1)
        self.positions = (sizes + before).to(device)  # of the next token, (T,)
        self.sees = (steps < sizes[:, None]).to(device)
        places = on_each_device(index)  # layers may lie on several
        self.prompt = [
            _each(pair, lambda x: x[:, places(x.device)].transpose(0, 1))
            for pair in zip(recorded.keys, recorded.values, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.positions)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with the sequences ``rows`` only."""
        self.positions, self.sees = self.positions[rows], self.sees[rows]
        places = on_each_device(rows)
        self.prompt = [_each(pair, lambda x: x[places(x.device)]) for pair in self.prompt]

    def blocks(self, call: Call) -> list[Block]:
        """The keys and values of the prefix, if any, and of the prompts, as a layer's new tokens see them."""
        blocks, before = [], self.prefix.length if self.prefix else 0
        prompt = self.prompt[call.layer]
        if self.prefix is not None:
            prefix = (self.prefix.keys[call.layer][None], self.prefix.values[call.layer][None])
            near = self._near(0, before, call.window)
            blocks.append(Block(*prefix, None if near is None else near.to(prefix[0].device)))
        near = self._near(before, self.sees.shape[1], call.window)
        sees = self.sees[:, None, None] if near is None else self.sees[:, None, None] & near
        return [*blocks, Block(*prompt, sees.to(prompt[0].device))]

    def _near(self, start: int, count: int, window: int | None) -> torch.Tensor | None:
        """(T, 1, 1, count): which keys at positions from ``start`` on are inside the window."""
        if window is None:
            return None
        keys = torch.arange(start, start + count, device=self.positions.device)
        return (self.positions[:, None] - keys < window)[:, None, None]


class DecodeLayout:
    """One new token per sequence of several parts; each reads what its part holds and what it has generated.

    The row holds the sequences of one part after the other; ``alive[i]`` is the number, among all sequences
    at the start, of the one in place i.
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts = list(parts)
        self.alive = list(range(sum(map(len, self.parts))))
        self.own: dict[int, KeysAndValues] = {}  # by layer: (T, n_kv_heads, steps, d)

    @property
    def positions(self) -> torch.Tensor:
        """Positions (T,) of the new tokens."""
        return torch.cat([part.positions for part in self.parts])

    def advance(self) -> None:
        for part in self.parts:
            part.positions = part.positions + 1

    def drop(self, keep: Sequence[int]) -> None:
        """Go on with the sequences in the places ``keep`` (increasing) only."""
        if len(keep) == len(self.alive):
            return
        chosen = torch.zeros(len(self.alive), dtype=torch.bool)
        chosen[list(keep)] = True
        for part, mine in zip(self.parts, chosen.split([len(part) for part in self.parts]), strict=True):
            if not mine.all():
                part.keep(mine.nonzero()[:, 0].to(part.positions.device))
        self.parts = [part for part in self.parts if len(part)]
        self.alive = [self.alive[i] for i in keep]
        self.own = {layer: _each(pair, lambda x: x[chosen.to(x.device)]) for layer, pair in self.own.items()}

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        new = _each((key, value), lambda x: x.transpose(0, 1)[:, :, None])
        if call.layer in self.own:
            keys, values = self.own[call.layer]
            new = torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2)
        self.own[call.layer] = new
        steps = torch.arange(new[0].shape[2], device=key.device)
        sees = None if call.window is None else (steps[-1] - steps < call.window)[None, None, None]
        rows = query.transpose(0, 1)[:, None, None]  # (T, 1, 1, n_heads, d)
        sizes = [len(part) for part in self.parts]
        outputs = [
            attend_blocks(q, [*part.blocks(call), Block(k, v, sees)], call)
            for part, q, k, v in zip(self.parts, *(x.split(sizes) for x in (rows, *new)), strict=True)
        ]
        return torch.cat(outputs)[:, 0, 0]


@measuring
def generate(
    engine: PrefixEngine,
    requests: Sequence[Request],
    stop: Stop,
    batch_tokens: int,
    progress: Progress = lambda done: None,
) -> list[list[list[int]]]:
    """Greedy continuations (token ids, the stopping token included) of each request's prompts, in the order
    given.

    A sequence ends when ``stop(ids so far)`` is true or after its request's ``max_new_tokens``; finished ones
    leave the batch and are reported to ``progress``. ``batch_tokens`` bounds the prompt tokens of a batch,
    those of the shared prefixes and all others each by themselves; it does not change the answers.
    """
    results: list[list[list[int]]] = [[[] for _ in request.prompts] for request in requests]
    shared = [engine.shared(request.prompts) for request in requests]
    prefixes: dict[int, Prefix | None] = {}
    for batch in _batches(requests, shared, batch_tokens):
        shares = [Share(requests[r], chosen, shared[r]) for r, chosen in batch]
        # what a later batch needs too is computed once, and what leaves no room for its prompts before them
        prefixes = {
            r: prefixes[r] if r in prefixes else engine.prefill(share.prefix)
            for (r, _), share in zip(batch, shares, strict=True)
            if not share.is_all or share.size > batch_tokens
        }
        cached = [prefixes.get(r) for r, _ in batch]
        decoded = _decode(engine, _passes(shares, cached, batch_tokens), stop, progress)
        for (r, i), ids in zip(((r, i) for r, chosen in batch for i in chosen), decoded, strict=True):
            results[r][i] = ids
    return results


@dataclass(frozen=True)
class Share:
    """The prompts of a request that are in the same batch, of whose tokens all of them share the first."""

    request: Request
    chosen: Sequence[int]
    shared: int

    @property
    def is_all(self) -> bool:
        return len(self.chosen) == len(self.request.prompts)

    @property
    def size(self) -> int:
        """Tokens of the prompts, those that they share counted once."""
        return self.shared + sum(len(self.request.prompts[i]) - self.shared for i in self.chosen)

    @property
    def prefix(self) -> tuple[int, ...]:
        return tuple(self.request.prompts[0][: self.shared])

    def trees(self, with_prefix: bool) -> list[Tree]:
        prefix = self.prefix if with_prefix else ()
        return [Tree(self.request.prompts[i][self.shared :], prefix=prefix) for i in self.chosen]


@dataclass(frozen=True)
class Pass:
    """Shares whose prompts run in one forward pass."""

    shares: Sequence[Share]
    pack: Pack

    def run(self, engine: PrefixEngine) -> tuple[torch.Tensor, list[Part]]:
        """The first new token (T,) of each prompt, and what the tokens after it read."""
        last, ends = self.last_rows, [*accumulate(len(share.chosen) for share in self.shares)]
        places = [slice(end - len(share.chosen), end) for share, end in zip(self.shares, ends, strict=True)]
        with ExitStack() as stack:
            for share, place in zip(self.shares, places, strict=True):
                if share.request.change_prompt:
                    stack.enter_context(share.request.change_prompt(last[place]))
            logits, recorded = engine.run_recorded(self.pack, last)
        return logits.argmax(-1), [Part(self.pack, recorded, place) for place in places]

    @property
    def last_rows(self) -> list[int]:
        """The row of each prompt's last token."""
        return [self.pack.trunk_end(t) for t in range(len(self.pack.trees))]


def _passes(shares: Sequence[Share], cached: Sequence[Prefix | None], budget: int) -> list[Pass]:
    """Passes of at most ``budget`` tokens each. A share with a prefix that was computed before goes alone."""
    passes: list[Pass] = []
    together: list[Share] = []
    used = 0

    def end() -> None:
        if together:
            trees = [tree for share in together for tree in share.trees(with_prefix=True)]
            passes.append(Pass([*together], Pack(tuple(trees))))

    for share, prefix in zip(shares, cached, strict=True):
        if prefix is not None or used + share.size > budget:
            end()
            together, used = [], 0
        if prefix is not None:
            passes.append(Pass([share], Pack(tuple(share.trees(with_prefix=False)), prefix)))
        else:
            together, used = [*together, share], used + share.size
    end()
    return passes


def _batches(
    requests: Sequence[Request], shared: Sequence[int], budget: int
) -> Iterator[list[tuple[int, list[int]]]]:
    """Batches of (request, places of its prompts) with at most ``budget`` tokens in all prefixes together
    and at most as many in all that follows them; what is larger goes alone.
    """
    batch: list[tuple[int, list[int]]] = []
    used = before = 0
    for r, request in enumerate(requests):
        sizes = [len(prompt) - shared[r] for prompt in request.prompts]
        for chosen in pack_by_size(sizes, budget):
            size = sum(sizes[i] for i in chosen)
            if batch and (used + size > budget or before + shared[r] > budget):
                yield batch
                batch, used, before = [], 0, 0
            batch.append((r, chosen))
            used, before = used + size, before + shared[r]
    if batch:
        yield batch


def _decode(engine: PrefixEngine, passes: Sequence[Pass], stop: Stop, progress: Progress) -> list[list[int]]:
    """Continuations of the passes' prompts, in their order."""
    started = [one.run(engine) for one in passes]
    tokens = torch.cat([first for first, _ in started])
    state = DecodeLayout([part for _, parts in started for part in parts])
    limits = [share.request.max_new_tokens for one in passes for share in one.shares for _ in share.chosen]
    prompts = [tree.trunk for one in passes for tree in one.pack.trees]
    lengths = [n for one in passes for n in (one.pack.positions[one.last_rows] + 1).tolist()]
    results: list[list[int]] = [[] for _ in limits]
    while True:
        for sequence, token in zip(state.alive, tokens.tolist(), strict=True):
            results[sequence].append(token)
        going = [i for i, s in enumerate(state.alive) if len(results[s]) < limits[s] and not stop(results[s])]
        if len(going) < len(state.alive):
            progress(len(state.alive) - len(going))
        if not going:
            return results
        state.drop(going)
        with engine.continuing([prompts[s] for s in state.alive]):
            longest = max(lengths[s] + len(results[s]) for s in state.alive)
            tokens = engine.call(tokens[going], state.positions, longest, state).argmax(-1)
        state.advance()
