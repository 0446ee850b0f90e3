"""Log-probabilities of wanted tokens, without ever holding the logits of the whole vocabulary.

Where a model's logits are its output head's answer and nothing else (most models), the head is applied here,
some thousand vocabulary entries at a time: the scores stay in the processor's cache, which makes the head
about half again as fast on a CPU and saves rows x vocabulary numbers of memory everywhere. Models that do
more with their logits (soft caps, scaling) are noticed by comparing one row of an engine's first pass, those
with adapters on the head by its type; they run as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.modes import evaluation_mode, measuring
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.products import linear

CHUNK_SCORES = 2**19  # rows x vocabulary entries at a time: 2 MB of float32, what a core's own cache holds
GPU_CHUNK_SCORES = 2**27  # 512 MB: products large enough to fill a GPU

# Whether an engine's model does nothing to the answer of its head: learnt in the engine's first pass.
# One forward pass per call, always: callers may be watching the model through hooks.
_PLAIN: WeakKeyDictionary[PrefixEngine, bool] = WeakKeyDictionary()


@measuring
def token_log_probabilities(
    engine: PrefixEngine,
    pack: Pack,
    keep: Sequence[int],
    rows: torch.Tensor,
    wanted: torch.Tensor,
    branch_rows: BranchRows | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log P, greedy) of each token ``wanted[i]`` as predicted by the kept row ``keep[rows[i]]`` of
    :meth:`PrefixEngine.run`.

    ``rows``, ``wanted``: (n,) integers. Returns float64 log-probabilities in nats and booleans (whether no
    other token is likelier), both (n,) on the CPU. Vocabulary scores are summed in float32 whatever the
    model's dtype.
    """
    head = engine.model.get_output_embeddings()
    plain = _PLAIN.get(engine) if type(head) is nn.Linear else False
    with head_input(head, first_row_only=bool(plain)) as seen:
        logits = engine.run(pack, keep, branch_rows)
    if plain is None:  # the engine's first pass: the head ran on all rows, nothing has to be run again
        _PLAIN[engine] = len(seen) == 1 and _is_plain(head, seen[0][:1], logits[:1])
    place = seen[0].device if plain else logits.device
    rows, wanted = rows.to(place), wanted.to(place)
    if plain:
        chosen, peak, total = _by_chunks(head, seen[0][: len(keep)], rows, wanted)
    else:
        logits = logits.float()
        chosen, peak, total = logits[rows, wanted], logits.amax(-1), logits.logsumexp(-1)
    return (chosen - total[rows]).double().cpu(), (chosen >= peak[rows]).cpu()


@torch.no_grad()
def has_plain_head(engine: PrefixEngine) -> bool:
    """Whether the model's logits are its output head's answer and nothing else.

    One token is run the first time.
    """
    if engine not in _PLAIN:  # training asks in every step: nothing else is done then
        head = engine.model.get_output_embeddings()
        with evaluation_mode(engine.model), head_input(head, first_row_only=False) as seen:
            logits = engine.run(Pack((Tree([0]),)), [0])
        plain = type(head) is nn.Linear and len(seen) == 1
        _PLAIN[engine] = plain and _is_plain(head, seen[0][:1], logits[:1])
    return _PLAIN[engine]


@contextmanager
def head_input(head: nn.Module | None, first_row_only: bool) -> Iterator[list[torch.Tensor]]:
    """Yields a list that fills with what enters the output head, (tokens, hidden_size).

    With ``first_row_only`` the head itself is spared all rows but the first.
    """
    seen: list[torch.Tensor] = []

    def hook(module: nn.Module, args: tuple) -> tuple | None:
        hidden = args[0].flatten(0, -2)  # where the last layer left it, which may not be where the head is
        weight = getattr(module, "weight", hidden)
        seen.append(hidden.to(weight.device))
        return (args[0][..., :1, :], *args[1:]) if first_row_only else None

    handle = None if head is None else head.register_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        if handle is not None:
            handle.remove()


def _is_plain(head: nn.Module, row: torch.Tensor, logits: torch.Tensor) -> bool:
    """Whether the model's ``logits`` (1, vocabulary) are weight and bias applied to ``row`` (1,
    hidden_size).
    """
    weight = getattr(head, "weight", None)
    if weight is None or tuple(weight.shape) != (logits.shape[-1], row.shape[-1]):
        return False
    expected = linear(row, weight, getattr(head, "bias", None)).float()
    step = torch.finfo(row.dtype).eps * max(float(expected.abs().max()), 1e-6)
    return float((expected - logits.float()).abs().max()) <= 16 * step


def _by_chunks(
    head: nn.Linear, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(scores of the wanted tokens (n,), largest score of each row, log of the summed exponentials of each
    row).
    """
    vocabulary, bias = head.weight.shape[0], head.bias
    entries = CHUNK_SCORES if hidden.device.type == "cpu" else GPU_CHUNK_SCORES
    width = max(256, entries // max(len(hidden), 1))
    order = wanted.argsort()
    edges = torch.arange(0, vocabulary + width, width)
    cuts = torch.searchsorted(wanted[order].cpu(), edges).tolist()
    chosen = torch.empty(len(wanted), dtype=torch.float32, device=hidden.device)
    peaks, totals = [], []
    for k, start in enumerate(edges[:-1].tolist()):
        part = slice(start, start + width)
        scores = linear(hidden, head.weight[part], None if bias is None else bias[part]).float()
        here = order[cuts[k] : cuts[k + 1]]
        chosen[here] = scores[rows[here], wanted[here] - start]
        peak = scores.amax(-1)
        totals.append(scores.sub_(peak[:, None]).exp_().sum(-1).log_().add_(peak))
        peaks.append(peak)
    return chosen, torch.stack(peaks).amax(0), torch.stack(totals).logsumexp(0)
