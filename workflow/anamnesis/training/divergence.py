"""KL divergence between two sets of logits, with its gradient worked out by hand to save passes over the
vocabulary.
"""

from __future__ import annotations

import torch

CHUNK = 32  # rows at a time: a chunk of logits stays in the processor's cache


class _Divergence(torch.autograd.Function):
    """Σ over rows of weight · KL, differentiable in the student's logits only."""

    @staticmethod
    def forward(ctx, student, teacher, weight, temperature, student_first):
        gradient = torch.empty_like(student)
        total = student.new_zeros((), dtype=torch.float64)
        for start in range(0, len(student), CHUNK):
            rows = slice(start, start + CHUNK)
            log_p = (student[rows].float() / temperature).log_softmax(-1)
            log_q = (teacher[rows].float() / temperature).log_softmax(-1)
            scale = weight[rows, None]
            if student_first:
                p, gap = log_p.exp(), log_p - log_q
                value = (p * gap).sum(-1, keepdim=True)
                slope = p.mul_(gap.sub_(value))
            else:
                q = log_q.exp()
                value = (q * (log_q - log_p)).sum(-1, keepdim=True)
                slope = log_p.exp().sub_(q)
            total += (scale * value).double().sum()
            gradient[rows] = slope.mul_(scale / temperature)
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None


def divergence(
    student: torch.Tensor,
    teacher: torch.Tensor,
    weight: torch.Tensor,
    temperature: float,
    student_first: bool,
) -> torch.Tensor:
    """Σ_i weight_i · KL between rows of logits (n, vocabulary) at a temperature, as a scalar.

    ``student_first``: KL(student ‖ teacher), else KL(teacher ‖ student). ``weight``: (n,). No gradient
    reaches the teacher.
    """
    return _Divergence.apply(student, teacher.detach(), weight, temperature, student_first)
