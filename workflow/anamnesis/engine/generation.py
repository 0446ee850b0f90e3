"""Greedy generation: shared prompts computed once, many groups of prompts decoded together, no padding in any
linear layer.

The cost of a decoding step grows far more slowly than the number of its sequences, as the weights are read
anyway. So sequences with different prefixes share their steps, and go apart in the attention only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from anamnesis.engine.attention import Call, ForestLayout
from anamnesis.engine.block_attention import Block, attend_blocks
from anamnesis.engine.hooks import on_each_device
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Tree, pack_by_size
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
    """What the sequences of one pack read besides their new tokens: the prefix and their own prompts.

    The keys and values of the packed forward are gathered into one padded block per layer.
    """

    def __init__(self, pack: Pack, recorded: ForestLayout):
        device = recorded.keys[0].device
        before = pack.cached.length if pack.cached else 0
        sizes = torch.tensor([tree.size for tree in pack.trees])
        steps = torch.arange(int(sizes.max()))
        index = torch.tensor(pack.starts)[:, None] + torch.minimum(steps, sizes[:, None] - 1)
        self.prefix = pack.cached
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
    prefixes: dict = {}
    for batch in _batches(requests, shared, batch_tokens):
        prefixes = {
            r: prefixes[r] if r in prefixes else engine.prefill(requests[r].prompts[0][: shared[r]])
            for r, _ in batch
        }
        packs = [
            Pack(tuple(Tree(requests[r].prompts[i][shared[r] :]) for i in chosen), prefixes[r])
            for r, chosen in batch
        ]
        decoded = _decode(engine, packs, [requests[r] for r, _ in batch], stop, progress)
        for (r, i), ids in zip(((r, i) for r, chosen in batch for i in chosen), decoded, strict=True):
            results[r][i] = ids
    return results


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


def _decode(
    engine: PrefixEngine, packs: Sequence[Pack], requests: Sequence[Request], stop: Stop, progress: Progress
) -> list[list[int]]:
    """Continuations of the packs' sequences, one pack after the other."""
    started = [_start(engine, pack, request) for pack, request in zip(packs, requests, strict=True)]
    tokens = torch.cat([first for first, _ in started])
    state = DecodeLayout([part for _, part in started])
    limits = [r.max_new_tokens for pack, r in zip(packs, requests, strict=True) for _ in pack.trees]
    prompts = [tree.trunk for pack in packs for tree in pack.trees]
    lengths = [n for pack in packs for n in (pack.positions[_last_rows(pack)] + 1).tolist()]
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


def _last_rows(pack: Pack) -> list[int]:
    """The row of each prompt's last token."""
    return [pack.trunk_end(t) for t in range(len(pack.trees))]


def _start(engine: PrefixEngine, pack: Pack, request: Request) -> tuple[torch.Tensor, Part]:
    """The first new token (T,) of each prompt, and what the tokens after it read."""
    last = _last_rows(pack)
    with request.change_prompt(last) if request.change_prompt else nullcontext():
        logits, recorded = engine.run_recorded(pack, last)
    return logits.argmax(-1), Part(pack, recorded)
