"""Log-likelihoods of continuations from many sources at once: what is worth a prefix of its own has one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from anamnesis.engine.pack import common_prefix_length
from anamnesis.engine.prefix_engine import WORTH_A_PASS, PrefixEngine
from anamnesis.engine.scoring import Question, score_questions


def groups_by_prefix(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """The places of ``sequences`` in groups, each to be run after what all of its members begin with.

    Sequences of several sources (tasks with demonstrations of their own, questions on one text each) share
    little all together and much within a source. A group is parted from the one around it where its longer
    prefix saves more tokens than running that prefix costs.
    """
    order = sorted(range(len(sequences)), key=lambda i: list(sequences[i]))
    # shared[k]: leading tokens that the sequence in place k has in common with the one before it
    shared = [0, *(common_prefix_length([sequences[a], sequences[b]]) for a, b in pairwise(order))]
    groups: list[list[int]] = [[]]
    waiting = [(0, len(order), 0, groups[0])]  # a run of places, the prefix of its group, the group
    while waiting:
        start, end, prefix, group = waiting.pop()
        if end - start <= 1:
            group += order[start:end]
            continue
        longest = min(shared[start + 1 : end])
        if (end - start - 1) * (longest - prefix) - prefix > WORTH_A_PASS:
            groups.append(group := [])
            prefix = longest
        edges = [start, *(k for k in range(start + 1, end) if shared[k] == longest), end]
        waiting += [(a, b, prefix, group) for a, b in pairwise(edges)]
    return [sorted(group) for group in groups if group]


def score_pairs(
    engine: PrefixEngine,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_tokens: int,
) -> list[tuple[float, bool]]:
    """(log-probability, greedy) of the continuation of each (context, continuation), as in :class:`Score`,
    from whatever sources: equal contexts run once, and so does what many contexts begin with.
    """
    answers: dict[int, tuple[float, bool]] = {}
    parts = _by_context(pairs, batch_tokens)
    for group in groups_by_prefix([pairs[part[0]][0] for part in parts]):
        places = [parts[k] for k in group]
        questions = [Question(pairs[part[0]][0], [pairs[i][1] for i in part]) for part in places]
        for part, score in zip(places, score_questions(engine, questions, batch_tokens), strict=True):
            answers |= zip(part, zip(score.log_probability, score.greedy, strict=True), strict=True)
    return [answers[i] for i in range(len(pairs))]


def _by_context(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch_tokens: int) -> list[list[int]]:
    """The places of pairs with equal contexts, together up to about ``batch_tokens`` tokens."""
    parts: list[list[int]] = []
    last: dict[tuple[int, ...], tuple[list[int], int]] = {}  # context -> its newest part, tokens in it
    for i, (context, continuation) in enumerate(pairs):
        key = tuple(context)
        part, used = last.get(key, ([], batch_tokens))
        if used + len(continuation) > batch_tokens:
            parts.append(part := [])
            used = len(context)
        part.append(i)
        last[key] = part, used + len(continuation)
    return parts
