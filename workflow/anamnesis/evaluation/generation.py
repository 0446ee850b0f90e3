"""Greedy generation in batches: shared prompts computed once, no padding in any linear layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from anamnesis.prefix.attention import Block, Call, ForestLayout, attend_blocks, layout
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.prefix.pack import Pack, Tree, common_prefix_length, pack_by_size


class DecodeLayout:
    """One new token per sequence; each reads the shared prefix, its own prompt and what it has generated.

    The keys and values of a packed forward are gathered into one padded block per layer once, and
    generated tokens are appended behind it.
    """

    def __init__(self, pack: Pack, recorded: ForestLayout):
        sizes = torch.tensor([tree.size for tree in pack.trees])
        device = recorded.keys[0].device
        n = int(sizes.max())
        index = torch.stack(
            [s + torch.arange(n).clamp(max=int(k) - 1) for s, k in zip(pack.starts, sizes, strict=True)]
        )
        self.prefix = pack.prefix
        self.positions = (sizes + (pack.prefix.length if pack.prefix else 0)).to(
            device
        )  # of the next token, (T,)
        self.key_positions = (torch.arange(n) + (pack.prefix.length if pack.prefix else 0)).to(device)
        self.prompt_sees = (torch.arange(n) < sizes[:, None]).to(device)
        self.prompt = [
            (k[:, index.to(device)].transpose(0, 1), v[:, index.to(device)].transpose(0, 1))
            for k, v in zip(recorded.keys, recorded.values, strict=True)
        ]
        self.own: list[list[tuple]] = [[] for _ in self.prompt]
        self.alive = torch.arange(len(pack.trees), device=device)

    def drop(self, keep: torch.Tensor) -> None:
        """Go on with the sequences ``keep`` (indices into those still alive) only."""
        self.positions, self.prompt_sees, self.alive = (
            self.positions[keep],
            self.prompt_sees[keep],
            self.alive[keep],
        )
        self.prompt = [(k[keep], v[keep]) for k, v in self.prompt]
        self.own = [[(k[keep], v[keep]) for k, v in steps] for steps in self.own]

    def attend(self, query, key, value, call: Call) -> torch.Tensor:
        self.own[call.layer].append((key.transpose(0, 1)[:, :, None], value.transpose(0, 1)[:, :, None]))
        own_k, own_v = (torch.cat(x, 2) for x in zip(*self.own[call.layer], strict=True))
        blocks = [
            Block(*self.prompt[call.layer], self._sees(self.key_positions, call, self.prompt_sees)),
            Block(own_k, own_v),
        ]
        if call.window is not None:
            steps = torch.arange(own_k.shape[2], device=key.device)
            blocks[1] = Block(own_k, own_v, (steps[-1] - steps < call.window)[None, None, None])
        if self.prefix is not None:
            prefix = (self.prefix.keys[call.layer][None], self.prefix.values[call.layer][None])
            blocks.insert(
                0, Block(*prefix, self._sees(torch.arange(self.prefix.length, device=key.device), call, None))
            )
        rows = query.transpose(0, 1)[:, None, None]  # (T, 1, 1, n_heads, d)
        return attend_blocks(rows, blocks, call)[:, 0, 0]

    def _sees(self, keys: torch.Tensor, call: Call, base: torch.Tensor | None) -> torch.Tensor | None:
        if call.window is not None:
            near = self.positions[:, None] - keys < call.window
            base = near if base is None else base & near
        return None if base is None else base[:, None, None]


@torch.no_grad()
def generate(
    engine: PrefixEngine,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Callable[[list[int]], bool],
    token_budget: int,
    progress: Callable[[int], None] = lambda done: None,
    change_prompt: Callable[[list[int]], AbstractContextManager] | None = None,
) -> list[list[int]]:
    """Greedy continuations (token ids, the stopping token included) of each prompt, in the order given.

    A sequence ends when ``stop(ids so far)`` is true or after ``max_new_tokens``; finished ones leave the
    batch.
    ``change_prompt(rows)`` may give a context in which the prompts are run, such as
    ``hooks.added_to_residual``; ``rows`` are the places of the last prompt tokens.
    """
    shared = min(common_prefix_length(prompts), min(map(len, prompts), default=1) - 1)
    prefix = engine.prefill(prompts[0][:shared]) if prompts else None
    results: list[list[int]] = [[] for _ in prompts]
    sizes = [len(p) - shared for p in prompts]
    for batch in pack_by_size(sizes, token_budget):
        pack = Pack(tuple(Tree(prompts[i][shared:]) for i in batch), prefix)
        decoded = _decode(engine, pack, max_new_tokens, stop, change_prompt)
        for i, ids in zip(batch, decoded, strict=True):
            results[i] = ids
        progress(len(batch))
    return results


def _decode(engine: PrefixEngine, pack: Pack, max_new_tokens: int, stop, change_prompt) -> list[list[int]]:
    last = [pack.trunk_end(t) for t in range(len(pack.trees))]
    with change_prompt(last) if change_prompt else nullcontext():
        logits, recorded = engine.run_recorded(pack, last)
    state = DecodeLayout(pack, recorded)
    results: list[list[int]] = [[] for _ in last]
    while True:
        tokens = logits.argmax(-1)
        alive = state.alive.tolist()
        for sequence, token in zip(alive, tokens.tolist(), strict=True):
            results[sequence].append(token)
        going = [i for i, s in enumerate(alive) if len(results[s]) < max_new_tokens and not stop(results[s])]
        if not going:
            return results
        keep = torch.tensor(going, device=tokens.device)
        if len(going) < len(alive):
            state.drop(keep)
        with layout(engine.model, state):
            logits = engine.model(
                input_ids=tokens[keep][None], position_ids=state.positions[None], use_cache=False
            ).logits[0]
        state.positions = state.positions + 1
