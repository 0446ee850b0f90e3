"""Trees of a pack that share one attention call, because they are of about the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from anamnesis.engine.pack import Pack, Tree

# Trees share one attention call while padding costs less than this factor: a call per tree would launch
# hundreds of small kernels, one call for all would mostly attend to padding.
GROUP_WASTE = 1.15


@dataclass(frozen=True)
class Group:
    """Trees of like size that share one attention call.

    ``index`` (B, n): the row index of each token, padded with the tree's first token; ``sees`` (B, n, n):
    True where a query sees a key, None when plain causal attention is right; ``prefix``: the rows that
    all of them continue.
    """

    index: torch.Tensor
    sees: torch.Tensor | None
    prefix: range = range(0)

    def is_row(self, pack: Pack) -> bool:
        """Whether the group is the row of its pack: one tree, in its order."""
        return self.index.shape == (1, pack.size)


def group_trees(pack: Pack, device: torch.device) -> tuple[list[Group], torch.Tensor]:
    """The groups of a pack and, for each token of the row, its place in the concatenated (padded) group
    outputs.
    """
    groups, place, offset = [], torch.empty(pack.size, dtype=torch.long), 0
    for prefix in pack.prefixes.values():
        place[prefix.start : prefix.stop] = offset + torch.arange(len(prefix))
        groups.append(Group(torch.arange(prefix.start, prefix.stop, device=device)[None], None))
        offset += len(prefix)
    for batch in _alike(pack.trees):
        n = max(pack.trees[i].size for i in batch)
        index = torch.zeros(len(batch), n, dtype=torch.long)
        for b, i in enumerate(batch):
            size, start = pack.trees[i].size, pack.starts[i]
            index[b, :] = start
            index[b, :size] = torch.arange(start, start + size)
            place[start : start + size] = offset + b * n + torch.arange(size)
        chains = all(pack.trees[i].is_chain for i in batch)
        sees = None if chains else torch.stack([tree_mask(pack.trees[i], n) for i in batch]).to(device)
        prefix = pack.prefixes.get(pack.trees[batch[0]].prefix, range(0))
        groups.append(Group(index.to(device), sees, prefix))
        offset += len(batch) * n
    return groups, place.to(device)


def _alike(trees: Sequence[Tree]) -> list[list[int]]:
    """Indices of trees with the same prefix and about the same size."""
    batches: list[list[int]] = []
    for i in sorted(range(len(trees)), key=lambda i: (trees[i].prefix, trees[i].size)):
        first = trees[batches[-1][0]] if batches else None
        if first and first.prefix == trees[i].prefix and trees[i].size <= GROUP_WASTE * first.size:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def tree_mask(tree: Tree, n: int) -> torch.Tensor:
    """(n, n) booleans: a token sees its ancestors and itself. Rows beyond the tree see themselves only."""
    sees = torch.eye(n, dtype=torch.bool)
    trunk = len(tree.trunk)
    sees[:trunk, :trunk] = torch.ones(trunk, trunk, dtype=torch.bool).tril()
    start = trunk
    for branch in tree.branches:
        end = start + len(branch)
        sees[start:end, :trunk] = True
        sees[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        start = end
    return sees
