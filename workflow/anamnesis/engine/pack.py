"""Token trees laid out in one row.

A :class:`Tree` is a prompt (the trunk) and what may follow it (the branches). A :class:`Pack` puts many trees
one after another into a single row of tokens, so that no linear layer ever sees padding. Positions continue
from trunk to branch: every root-to-leaf path has the positions it would have as a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Found = TypeVar("Found")


@dataclass(frozen=True)
class Tree:
    """One trunk of tokens and the branches that continue it (each a list of token ids; none is a plain
    sequence).

    ``prefix``: tokens before the trunk that other trees of the pack may share. They run once per pack, and
    with gradient, unlike a :class:`Prefix`.
    """

    trunk: Sequence[int]
    branches: Sequence[Sequence[int]] = ()
    prefix: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of tokens of the trunk and all branches, without the prefix."""
        return len(self.trunk) + sum(map(len, self.branches))

    @property
    def is_chain(self) -> bool:
        """Whether plain causal attention is right for it: at most one branch."""
        return len(self.branches) <= 1


@dataclass(frozen=True)
class Prefix:
    """Keys and values of tokens that precede every tree of a pack, computed once.

    ``keys[l]``, ``values[l]``: (n_kv_heads, length, head_dim) of attention layer l.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def length(self) -> int:
        return self.keys[0].shape[1]


@dataclass(frozen=True)
class Pack:
    """Trees in one row, optionally after a prefix that was computed before (``cached``).

    ``tokens``, ``positions``: (n_tokens,) on the CPU; ``starts[i]`` is where tree i begins. The row begins
    with the prefixes of the trees: ``prefixes`` maps each distinct one to its rows.
    """

    trees: tuple[Tree, ...]
    cached: Prefix | None = None
    tokens: torch.Tensor = field(init=False)
    positions: torch.Tensor = field(init=False)
    starts: tuple[int, ...] = field(init=False)
    prefixes: dict[tuple[int, ...], range] = field(init=False)

    def __post_init__(self) -> None:
        before = self.cached.length if self.cached else 0
        tokens: list[int] = []
        positions: list[int] = []
        starts: list[int] = []
        prefixes: dict[tuple[int, ...], range] = {}
        for prefix in dict.fromkeys(tree.prefix for tree in self.trees if tree.prefix):
            prefixes[prefix] = range(len(tokens), len(tokens) + len(prefix))
            tokens.extend(prefix)
            positions.extend(range(before, before + len(prefix)))
        for tree in self.trees:
            starts.append(len(tokens))
            n, offset = len(tree.trunk), before + len(tree.prefix)
            tokens.extend(tree.trunk)
            positions.extend(range(offset, offset + n))
            for branch in tree.branches:
                tokens.extend(branch)
                positions.extend(range(offset + n, offset + n + len(branch)))
        object.__setattr__(self, "tokens", torch.tensor(tokens, dtype=torch.long))
        object.__setattr__(self, "positions", torch.tensor(positions, dtype=torch.long))
        object.__setattr__(self, "starts", tuple(starts))
        object.__setattr__(self, "prefixes", prefixes)

    @property
    def size(self) -> int:
        return len(self.tokens)

    def trunk_end(self, tree: int) -> int:
        """Index, in the row, of the last token of the trunk of ``tree``."""
        return self.starts[tree] + len(self.trees[tree].trunk) - 1

    def branch_start(self, tree: int, branch: int) -> int:
        """Index, in the row, of the first token of a branch."""
        before = sum(len(b) for b in self.trees[tree].branches[:branch])
        return self.starts[tree] + len(self.trees[tree].trunk) + before


def pack_by_size(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches of indices whose sizes are alike and sum to at most ``budget`` tokens (a larger one goes
    alone).

    Longest first, so that the largest batch, the one that may not fit the memory, is tried first.
    """
    batch: list[int] = []
    used = 0
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if batch and used + sizes[index] > budget:
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += sizes[index]
    if batch:
        yield batch


def halved_to_fit(
    batches: Sequence[list[int]], work: Callable[[list[int]], Found]
) -> Iterator[tuple[list[int], Found]]:
    """Every batch with what ``work`` makes of it; one for which the device has too little memory is halved.

    Raises torch.OutOfMemoryError for a single item that does not fit.
    """
    waiting = list(batches)[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            found = work(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            waiting += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
        else:
            yield batch, found
            continue
        torch.cuda.empty_cache()  # only here is what the failed pass held free


def common_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all sequences share."""
    if not sequences:
        return 0
    first, last = min(sequences, key=list), max(sequences, key=list)
    for index, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return index
    return min(len(first), len(last))
