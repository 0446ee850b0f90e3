"""Residual streams read, and head outputs put back, at the last token of prompts; for the length of a
``with`` block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.pack import Pack, Prefix, Tree, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question


@contextmanager
def captured_residual(geometry: HeadGeometry, rows: Sequence[int]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with one (len(rows), hidden_size) tensor per layer: the residual stream after
    the layer, on the CPU.
    """
    captured: list[torch.Tensor] = []
    index = torch.as_tensor(rows, dtype=torch.long)

    def hook(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        captured.append(hidden[0, index.to(hidden.device)].cpu())

    with ExitStack() as stack:
        for block in geometry.blocks:
            stack.callback(block.register_forward_hook(hook).remove)
        yield captured


@contextmanager
def replaced_heads(
    geometry: HeadGeometry, heads: Sequence[tuple[int, int]], values: torch.Tensor, rows: Sequence[int]
) -> Iterator[None]:
    """Head outputs before W_O at the tokens ``rows`` replaced by ``values`` (len(rows), len(heads),
    head_dim).
    """
    index = torch.as_tensor(rows, dtype=torch.long)
    of_layer: dict[int, list[int]] = {}
    for place, (layer, head) in enumerate(heads):
        geometry.check_head(layer, head)
        of_layer.setdefault(layer, []).append(place)

    def hook_for(places: list[int]):
        numbers = torch.tensor([heads[place][1] for place in places])

        def hook(module, args):
            x = args[0].clone()
            split = x.view(*x.shape[:2], geometry.n_heads, geometry.head_dim)
            split[0, index[:, None].to(x.device), numbers.to(x.device)] = values[:, places].to(x)
            return (x, *args[1:])

        return hook

    with ExitStack() as stack:
        for layer, places in of_layer.items():
            handle = geometry.projections[layer].register_forward_pre_hook(hook_for(places))
            stack.callback(handle.remove)
        yield


def packed(
    engine: PrefixEngine, questions: Sequence[Question], batch_tokens: int
) -> Iterator[tuple[list[int], Pack]]:
    """Batches (places in ``questions``, pack) of the questions, as ``engine.scoring.score_batch`` wants
    them: what all prompts begin with runs once, before the first.
    """
    prefix: Prefix | None = engine.beginning([q.context for q in questions])
    shared = prefix.length if prefix else 0
    trees = [Tree(q.context[shared:], [c[:-1] for c in q.continuations if len(c) > 1]) for q in questions]
    for batch in pack_by_size([tree.size for tree in trees], batch_tokens):
        yield batch, Pack(tuple(trees[i] for i in batch), prefix)


def last_tokens(pack: Pack) -> list[int]:
    """Where in the row the prompts of a pack end."""
    return [pack.trunk_end(t) for t in range(len(pack.trees))]
