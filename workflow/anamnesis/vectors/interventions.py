"""What adding a vector to the residual stream does, layer by layer (arXiv 2406.12227, appendix E)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from anamnesis.evaluation.scoring import Question
from anamnesis.prefix.engine import PrefixEngine, born_index
from anamnesis.prefix.pack import Pack, Tree, pack_by_size
from anamnesis.prefix.rows import Births


@torch.no_grad()
def intervene(engine: PrefixEngine, questions: Sequence[Question], vectors: torch.Tensor, layers: Sequence[int],
              token_budget: int, progress: Callable[[int], None] = lambda done: None) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the target is what greedy decoding begins with, with and without each vector added after each layer.

    ``vectors``: (n_questions, n_conditions, hidden_size), added to the residual stream at the last prompt token.
    Returns (changed, clean): booleans (n_conditions, len(layers), n_questions) and (n_questions,). The prompt runs once;
    every (layer, condition) is a branch born at its layer.
    """
    layers, conditions = list(layers), vectors.shape[1]
    changed = torch.zeros(conditions, len(layers), len(questions), dtype=torch.bool)
    clean = torch.zeros(len(questions), dtype=torch.bool)
    lengths = [len(q.continuations[0]) for q in questions]
    for m in sorted(set(lengths)):
        members = [i for i, length in enumerate(lengths) if length == m]
        sizes = [len(questions[i].context) + conditions * len(layers) * m for i in members]
        for batch in pack_by_size(sizes, token_budget):
            chosen = [members[k] for k in batch]
            with_vector, without = _branches(engine, [questions[i] for i in chosen], vectors[chosen], layers)
            changed[:, :, chosen], clean[chosen] = with_vector, without
            progress(len(chosen))
    return changed, clean


def _branches(engine: PrefixEngine, questions: Sequence[Question], vectors: torch.Tensor, layers: Sequence[int]):
    answers = [q.continuations[0] for q in questions]
    pack = Pack(tuple(Tree(q.context[:-1], [[q.context[-1], *a[:-1]]]) for q, a in zip(questions, answers, strict=True)))
    vectors = vectors.to(engine.device)
    births = Births(vectors.shape[1], layers, "residual", lambda layer, x: x + vectors.to(x.dtype))
    index = born_index(pack, births)  # (layer, condition, question, m)
    clean = torch.stack([pack.branch_start(t, 0) + torch.arange(index.shape[-1]) for t in range(len(questions))])
    rows = torch.cat([index.flatten(0, 1), clean[None]])
    predicted = engine.run(pack, rows.flatten(), births).argmax(-1).cpu().view(rows.shape)
    hit = (predicted == torch.tensor(answers)).all(-1)  # (layer·condition + 1, question)
    return hit[:-1].view(len(layers), -1, len(questions)).transpose(0, 1), hit[-1]


def random_vectors(like: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, hidden_size) random directions, each with the norm of ``like``: the control for an intervention."""
    drawn = torch.randn(count, like.shape[-1], generator=generator)
    return drawn / drawn.norm(dim=-1, keepdim=True) * like.norm()
