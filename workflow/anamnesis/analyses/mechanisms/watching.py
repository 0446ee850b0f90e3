"""Watching a forward pass over probes: states, attention and linear layers at the last prompt tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from anamnesis.core.errors import UserError
from anamnesis.engine.attention import Call, ForestLayout
from anamnesis.engine.examples import Example
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine


@dataclass(frozen=True)
class LastRows:
    """Places in a pack of probes. ``last`` (N,): the last prompt token of each example; ``answers``: all rows
    that predict an answer token, example by example; ``paths`` (N, longest): the prompt of each example,
    padded with its first token; ``lengths`` (N,): how many of them are its own.
    """

    last: list[int]
    answers: list[int]
    paths: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def of(cls, pack: Pack, examples: Sequence[Sequence[Example]], longest: int) -> LastRows:
        last, answers, paths, lengths = [], [], [], []
        for t, chosen in enumerate(examples):
            for b, example in enumerate(chosen):
                start, prefix = pack.branch_start(t, b), example.prefix_length
                end = start + len(example.prompt) - prefix
                last.append(end - 1)
                answers += range(end - 1, end - 1 + len(example.answer))
                path = [*range(pack.starts[t], pack.starts[t] + prefix), *range(start, end)]
                paths.append(path + [path[0]] * (longest - len(path)))
                lengths.append(len(path))
        return cls(last, answers, torch.tensor(paths), torch.tensor(lengths))


class WatchedLayout(ForestLayout):
    """The layout of a pack that also notes how the last prompt tokens attend.

    ``attention[l]``: (N, n_heads, longest prompt), zero behind a prompt's end.
    """

    def __init__(self, pack: Pack, device: torch.device, rows: LastRows):
        super().__init__(pack, device)
        self.rows = rows
        self.attention: list[torch.Tensor] = []

    def attend(self, query, key, value, call: Call) -> torch.Tensor:
        with torch.no_grad():
            self.attention.append(self._last(query.detach(), key.detach(), call).cpu())
        return super().attend(query, key, value, call)

    def _last(self, query: torch.Tensor, key: torch.Tensor, call: Call) -> torch.Tensor:
        paths, lengths = self.rows.paths.to(query.device), self.rows.lengths.to(query.device)
        q = query[:, self.rows.last].unflatten(0, (key.shape[0], -1)).float()  # (kv, group, N, d)
        scores = torch.einsum("kgnd,knld->nkgl", q, key[:, paths].float()).flatten(1, 2) * call.scale
        if call.softcap is not None:
            scores = call.softcap * torch.tanh(scores / call.softcap)
        place = torch.arange(paths.shape[1], device=query.device)
        seen = place < lengths[:, None]
        if call.window is not None:
            seen &= lengths[:, None] - 1 - place < call.window
        return scores.masked_fill(~seen[:, None], -math.inf).softmax(-1)


@contextmanager
def last_states(geometry: HeadGeometry, rows: Sequence[int]) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with the residual stream behind each layer at ``rows``: (len(rows),
    hidden_size).
    """
    found: list[torch.Tensor] = []

    def hook(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        found.append(hidden[0, rows].detach().cpu())  # layers may lie on several devices

    with ExitStack() as stack:
        for block in geometry.blocks:
            stack.callback(block.register_forward_hook(hook).remove)
        yield found


def projection_layers(engine: PrefixEngine, names: Sequence[str]) -> dict[tuple[int, str], nn.Module]:
    """(layer, name) -> the linear layer of that name in each decoder layer.

    Raises UserError for a name that a decoder layer does not have, or has more than once.
    """
    found = {}
    for layer, block in enumerate(engine.geometry.blocks):
        linear = {n: m for n, m in block.named_modules() if getattr(m, "weight", None) is not None}
        for name in names:
            matching = [m for n, m in linear.items() if n.rsplit(".", 1)[-1] == name and m.weight.dim() == 2]
            if len(matching) != 1:
                known = sorted({n.rsplit(".", 1)[-1] for n, m in linear.items() if m.weight.dim() == 2})
                raise UserError(
                    f"mechanisms.matrices names {name}, of which layer {layer} of "
                    f"{type(engine.model).__name__} has {len(matching)}: choose from {', '.join(known)}"
                )
            found[layer, name] = matching[0]
    return found
