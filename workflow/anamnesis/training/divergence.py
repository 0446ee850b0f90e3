"""KL divergences between two sets of logits, with their gradient worked out by hand to save passes over the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from anamnesis.models.products import linear
from anamnesis.training.scores import Scores

DIRECTIONS = ("student_teacher", "teacher_student", "symmetric")
CHUNK = 1 << 24
"""Logits of one product with the head (64 MB): its weights are read once for all of these rows."""
CACHED = 1 << 19  # of them, worked on at a time: 2 MB, what a core's own cache holds
GPU_CHUNK = 1 << 25  # of a product; a quarter of them at a time, since starting work costs more than memory


class _Divergence(torch.autograd.Function):
    """KL of each row, differentiable in the student's values only."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, student: Scores, teacher: Scores, temperature: float, direction: str
    ) -> torch.Tensor:
        gradient = torch.empty_like(values)
        divergences = values.new_empty(len(values), dtype=torch.float32)
        chunk, cached = _logits_at_once(values.device)
        for rows in _slices(len(values), chunk // student.vocabulary):
            s, t, values_of = student.logits(rows), teacher.logits(rows), divergences[rows]
            slope = gradient[rows] if student.head is None else s  # logits of our own are not needed again
            for part in _slices(len(s), cached // student.vocabulary):
                value, raw = _rows(s[part] / temperature, t[part] / temperature, direction)
                values_of[part] = value.squeeze(-1)
                slope[part] = raw.div_(temperature)
            if student.head is not None:
                gradient[rows] = linear(slope.to(values.dtype), student.head.weight.t())
        ctx.save_for_backward(gradient)
        return divergences

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None], None, None, None, None


def _logits_at_once(device: torch.device) -> tuple[int, int]:
    """(of one product with the head, of those worked on at a time)."""
    return (CHUNK, CACHED) if device.type == "cpu" else (GPU_CHUNK, GPU_CHUNK // 4)


def _slices(count: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _rows(s: torch.Tensor, t: torch.Tensor, direction: str) -> tuple[torch.Tensor, torch.Tensor]:
    """KL of each row (n, 1) and its slope in the student's logits (n, vocabulary)."""
    p, q = s.log_softmax(-1), t.log_softmax(-1)
    gap = p - q
    p.exp_()
    forward = torch.linalg.vecdot(p, gap).unsqueeze(-1)  # KL(student || teacher)
    if direction == "student_teacher":
        return forward, gap.sub_(forward).mul_(p)
    q.exp_()
    backward = -torch.linalg.vecdot(q, gap).unsqueeze(-1)
    if direction == "teacher_student":
        return backward, p.sub_(q)
    return forward + backward, (p - q).addcmul_(p, gap.sub_(forward))


def divergence(student: Scores, teacher: Scores, temperature: float, direction: str) -> torch.Tensor:
    """(n,) KL between rows of logits at a temperature.

    ``direction``: student_teacher for KL(student ‖ teacher), teacher_student for the reverse, symmetric for
    the sum of the two. No gradient reaches the teacher, nor a head. Where the student comes
    with its head, its gradient is worked out down to the hidden states, some rows at a time.
    """
    return _Divergence.apply(student.values, student, teacher.detach(), temperature, direction)
