"""Causal effect of every head (arXiv 2406.12227, eq. 2) in little more than one forward pass per prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from anamnesis.core.errors import UserError
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Prefix, Tree, halved_to_fit, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index
from anamnesis.engine.scoring import Question
from anamnesis.vectors.ranking import EFFECT_COLUMNS

ROWS = 4096  # of the logits, in float32 at a time


@measuring
def causal_effects(
    engine: PrefixEngine,
    questions: Sequence[Question],
    prompt_ids: Sequence[str],
    mean: torch.Tensor,
    batch_tokens: int,
    target: str = "full",
    shard: int = 0,
    shards: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Effect of replacing each head's output at the last prompt token by its task mean, one row per prompt
    and head.

    ``mean``: (n_layers, n_heads, head_dim). The effect is P(target | patched) − P(target | clean);
    ``log_effect`` is the same difference of log-probabilities. P of a target of several tokens is the product
    over its tokens, every factor from the patched run (``target="full"``), or the probability of its first
    token only (``target="first_token"``).

    ``shard`` of ``shards`` computes every ``shards``-th batch; batches are made from all prompts, so that
    shards put together are the unsharded result bit for bit (on a GPU, as long as none runs out of memory: a
    batch that does is halved). Raises UserError for ``prompt_ids`` that do not name each prompt.
    """
    if len(prompt_ids) != len(questions) or len({*prompt_ids}) < len(prompt_ids):
        raise UserError(
            f"{len(questions)} prompts have {len({*prompt_ids})} different prompt_ids: give each its own"
        )
    prefix = engine.beginning([q.context for q in questions])  # the instruction
    batches = _batches(engine, questions, prefix.length if prefix else 0, batch_tokens, target)
    frames = []

    def swept(batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return _sweep(engine, [questions[i] for i in batch], prefix, mean, target)

    for batch, (patched, clean) in halved_to_fit(batches[shard::shards], swept):
        frames.append(_frame([prompt_ids[i] for i in batch], patched, clean))
        progress(len(batch))
    if not frames:  # more shards than batches: the same column types, so that joining changes none
        nothing = torch.zeros(0, dtype=torch.float64)
        return _frame([], nothing.view(0, 0, 0), nothing).astype({"prompt_id": "str"})
    return pd.concat(frames).sort_values(EFFECT_COLUMNS[:3], ignore_index=True)


def _batches(
    engine: PrefixEngine, questions: Sequence[Question], shared: int, batch_tokens: int, target: str
) -> list[list[int]]:
    """Prompts whose targets have the same number of tokens, as many at once as the budget allows."""
    lengths = [1 if target == "first_token" else len(q.continuations[0]) for q in questions]
    copies = engine.geometry.n_layers * engine.geometry.n_heads
    batches = []
    for m in sorted(set(lengths)):
        members = [i for i, length in enumerate(lengths) if length == m]
        sizes = [len(questions[i].context) - shared + copies * m for i in members]
        batches += [[members[k] for k in batch] for batch in pack_by_size(sizes, batch_tokens)]
    return batches


def _sweep(
    engine: PrefixEngine,
    questions: Sequence[Question],
    prefix: Prefix | None,
    mean: torch.Tensor,
    target: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the targets: (n_layers, n_heads, prompts) patched and (prompts,) clean. All
    contexts begin with the tokens of ``prefix``.
    """
    geometry, shared = engine.geometry, prefix.length if prefix else 0
    answers = [q.continuations[0][:1] if target == "first_token" else q.continuations[0] for q in questions]
    trees = [Tree(q.context[shared:-1], [[q.context[-1], *answers[k][:-1]]]) for k, q in enumerate(questions)]
    pack, mean = Pack(tuple(trees), prefix), mean.to(engine.device)

    def replace_own_head(layer: int, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()  # (prompts, copies = n_heads, n_heads, head_dim): copy j gets head j replaced
        x.diagonal(dim1=1, dim2=2).copy_(mean[layer].T)
        return x

    branch_rows = BranchRows(geometry.n_heads, range(geometry.n_layers), "heads", replace_own_head)
    index = branch_row_index(pack, branch_rows)  # (layer, head, prompt, m)
    m = index.shape[-1]
    clean = torch.stack([pack.branch_start(t, 0) + torch.arange(m) for t in range(len(trees))])
    rows = torch.cat([index.flatten(0, 1), clean[None]])  # (layer·head + 1, prompt, m)
    logits = engine.run(pack, rows.flatten(), branch_rows)
    want = torch.tensor(answers).expand(rows.shape).flatten().to(logits.device)
    parts = [slice(start, start + ROWS) for start in range(0, len(want), ROWS)]
    chosen = torch.cat([_log_probability(logits[part].float(), want[part]) for part in parts])
    total = chosen.double().view(rows.shape).sum(-1).cpu()  # (layer·head + 1, prompt)
    return total[:-1].view(geometry.n_layers, geometry.n_heads, len(trees)), total[-1]


def _log_probability(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1)


def _frame(prompt_ids: Sequence[str], patched: torch.Tensor, clean: torch.Tensor) -> pd.DataFrame:
    """The rows of some prompts: ``patched`` (n_layers, n_heads, prompts), ``clean`` (prompts,)."""
    layers, heads, prompts = patched.shape
    log_patched = patched.movedim(2, 0).flatten().numpy()
    p_clean, p_patched = clean.exp().numpy().repeat(layers * heads), np.exp(log_patched)
    return pd.DataFrame(
        {
            "prompt_id": np.repeat(prompt_ids, layers * heads),
            "layer": np.tile(np.repeat(np.arange(layers), heads), prompts),
            "head": np.tile(np.arange(heads), layers * prompts),
            "p_clean": p_clean,
            "p_patched": p_patched,
            "effect": p_patched - p_clean,
            "log_effect": log_patched - clean.numpy().repeat(layers * heads),
        }
    )
