"""Log-likelihoods of answers: rank classification with every shared token computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from anamnesis.engine.likelihood import token_log_probabilities
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Tree, halved_to_fit, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine


@dataclass(frozen=True)
class Question:
    """A prompt and the continuations to be scored, as token ids, each of at least one."""

    context: Sequence[int]
    continuations: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Score:
    """Per continuation: summed log-probability (nats), and whether greedy decoding would have produced it."""

    log_probability: tuple[float, ...]
    greedy: tuple[bool, ...]


@measuring
def score_questions(
    engine: PrefixEngine,
    questions: Sequence[Question],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Score]:
    """Score every continuation of every question, in the order given.

    Tokens that all prompts share (instruction, fixed demonstrations) run once; each prompt runs once for all
    of its continuations; only positions that predict a continuation token go through the output head.
    ``batch_tokens`` bounds the tokens of one forward pass; when memory runs out the pass is halved.
    ``progress`` gets the questions done.
    """
    shared = engine.worth_sharing([q.context for q in questions])
    before = tuple(questions[0].context[:shared]) if shared else ()
    trees = [Tree(q.context[shared:], [c[:-1] for c in q.continuations if len(c) > 1]) for q in questions]
    prefix = None
    if shared + sum(tree.size for tree in trees) <= batch_tokens:  # a single pass has room for all
        trees = [replace(tree, prefix=before) for tree in trees]
    else:
        prefix = engine.prefill(before)
    scores: dict[int, Score] = {}

    def scored(batch: list[int]) -> list[Score]:
        pack = Pack(tuple(trees[i] for i in batch), prefix)
        return score_batch(engine, [questions[i] for i in batch], pack)

    for batch, found in halved_to_fit([*pack_by_size([tree.size for tree in trees], batch_tokens)], scored):
        scores |= zip(batch, found, strict=True)
        progress(len(batch))
    return [scores[i] for i in range(len(questions))]


def score_batch(engine: PrefixEngine, questions: Sequence[Question], pack: Pack) -> list[Score]:
    """Scores of the questions in ``pack``: trunk = context, one branch per continuation of several tokens.

    Every continuation token is predicted by the end of the trunk or by the token before it in its branch.
    """
    keep: list[int] = []
    rows: list[int] = []  # for each continuation token: the kept row that predicts it
    wanted: list[int] = []
    for t, question in enumerate(questions):
        keep.append(pack.trunk_end(t))
        end, branch = len(keep) - 1, 0
        for continuation in question.continuations:
            rows.append(end)
            wanted.extend(continuation)
            if len(continuation) > 1:
                start = pack.branch_start(t, branch)
                branch += 1
                rows.extend(range(len(keep), len(keep) + len(continuation) - 1))
                keep.extend(range(start, start + len(continuation) - 1))
    chosen, hit = token_log_probabilities(engine, pack, keep, torch.tensor(rows), torch.tensor(wanted))
    return _collect(questions, chosen, hit)


def _collect(questions: Sequence[Question], chosen: torch.Tensor, hit: torch.Tensor) -> list[Score]:
    scores, at = [], 0
    for question in questions:
        sums, greedy = [], []
        for continuation in question.continuations:
            span = slice(at, at + len(continuation))
            sums.append(float(chosen[span].sum()))
            greedy.append(bool(hit[span].all()))
            at += len(continuation)
        scores.append(Score(tuple(sums), tuple(greedy)))
    return scores
