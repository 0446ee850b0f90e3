"""Task-conditioned mean head activations (arXiv 2406.12227, eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anamnesis.core.artifacts import read_header, read_tensors, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.hooks import captured_heads, captured_lengths
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Tree, halved_to_fit, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_batch
from anamnesis.engine.writing import captured_scales

if TYPE_CHECKING:
    from anamnesis.engine.scoring import Score

ENOUGH = 5  # with fewer correct answers than this, the mean is taken over all prompts


@dataclass(frozen=True)
class MeanActivations:
    """``mean`` (n_layers, n_heads, head_dim) float32 over ``count`` prompts; ``correct`` of ``prompts`` were
    answered rightly, and ``over`` says which were averaged: "correct" or "all".

    Over the same prompts: ``stream`` (n_layers,), the length of the residual stream after each layer, and
    ``scale`` (n_layers, hidden_size), see ``engine.writing.captured_scales``; None without norms there.
    """

    mean: torch.Tensor
    count: int
    correct: int
    prompts: int
    over: str
    stream: torch.Tensor
    scale: torch.Tensor | None


@measuring
def mean_head_activations(
    engine: PrefixEngine,
    questions: Sequence[Question],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> MeanActivations:
    """Mean output of every head at the last prompt token, over the prompts the model answers correctly.

    A prompt counts as correct when its first continuation (the target) is the likeliest of its choices, or,
    without choices, what greedy decoding begins with. With fewer than ``ENOUGH`` correct prompts all are
    averaged: a mean of one or two activations would be noise, and the caller is told through ``over``.
    """
    sums: dict[bool, list[torch.Tensor]] = {}
    counts = {True: 0, False: 0}
    prefix = engine.beginning([q.context for q in questions])  # the instruction
    shared = prefix.length if prefix else 0
    trees = [Tree(q.context[shared:], [c[:-1] for c in q.continuations if len(c) > 1]) for q in questions]

    def observed(batch: list[int]) -> tuple[list[torch.Tensor], list[Score]]:
        pack = Pack(tuple(trees[i] for i in batch), prefix)
        with _captured(engine.geometry, [pack.trunk_end(t) for t in range(len(batch))]) as parts:
            scores = score_batch(engine, [questions[i] for i in batch], pack)
        # each (B, n_layers, ...)
        return [torch.stack(part, 1).cpu().double() for part in parts if part], scores

    batches = [*pack_by_size([tree.size for tree in trees], batch_tokens)]
    for batch, (parts, scores) in halved_to_fit(batches, observed):
        for *values, score in zip(*parts, scores, strict=True):
            right = is_correct(score)
            before = sums.get(right, [0.0] * len(values))
            sums[right] = [a + b for a, b in zip(before, values, strict=True)]
            counts[right] += 1
        progress(len(batch))
    total, correct = sum(counts.values()), counts[True]
    if correct >= min(ENOUGH, total):
        count, over, found = correct, "correct", sums[True]
    else:
        count, over = total, "all"
        found = [sum(column) for column in zip(*sums.values(), strict=True)]
    mean, stream, *scales = ((part / count).float() for part in found)
    return MeanActivations(mean, count, correct, total, over, stream, next(iter(scales), None))


def write_activations(path: str | Path, task: str, found: MeanActivations) -> None:
    """Write the means of a task (safetensors: mean, count, stream and, where there is one, scale)."""
    header = {"task": task, "over": found.over, "correct": str(found.correct), "prompts": str(found.prompts)}
    tensors = {"mean": found.mean, "count": torch.tensor(found.count), "stream": found.stream}
    write_tensors(path, tensors if found.scale is None else tensors | {"scale": found.scale}, header)


def read_activations(path: str | Path) -> MeanActivations:
    """What :func:`write_activations` wrote. Raises UserError for a missing or damaged file."""
    tensors, header = read_tensors(path), read_header(path)
    count, correct, prompts = int(tensors["count"]), int(header["correct"]), int(header["prompts"])
    scale = tensors.get("scale")
    return MeanActivations(tensors["mean"], count, correct, prompts, header["over"], tensors["stream"], scale)


@contextmanager
def _captured(geometry: HeadGeometry, rows: Sequence[int]) -> Iterator[tuple[list[torch.Tensor], ...]]:
    """Lists that fill with one tensor per layer for the tokens ``rows``: head outputs, lengths of the stream,
    scales.
    """
    with (
        captured_heads(geometry, rows) as heads,
        captured_lengths(geometry, rows) as lengths,
        captured_scales(geometry.writing, rows) as scales,
    ):
        yield heads, lengths, scales


def check_answered(means: Sequence[str | Path]) -> None:
    """Raise UserError for a task that the model before training answered in none of its prompts: its mean
    activation is not that of the task, so no method can use it. ``means``: files of mean activations.
    """
    for path in means:
        header = read_header(path)
        if header["correct"] == "0":
            raise UserError(
                f"{header['task']}: the model before training answers 0 of {header['prompts']} prompts of "
                "this task, so that it has no instruction vector; leave the task out of suite.orders, or "
                "guided methods and fvg out of training.methods, give more examples (vectors.shots, "
                "vectors.activation_prompts), or set vectors.never_answered to average"
            )


def is_correct(score: Score) -> bool:
    """Whether the first continuation wins: against the other choices, or as the greedy continuation."""
    if len(score.log_probability) > 1:
        return score.log_probability[0] == max(score.log_probability)
    return score.greedy[0]
