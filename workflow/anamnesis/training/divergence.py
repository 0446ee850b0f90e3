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
            value, slope = _chunk(
                student[rows].float() / temperature, teacher[rows].float() / temperature, student_first
            )
            scale = weight[rows, None]
            total += (scale * value).double().sum()
            gradient[rows] = slope.mul_(scale / temperature)
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(upstream), None, None, None, None


def _chunk(s: torch.Tensor, t: torch.Tensor, student_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """KL of each row (n, 1) and its slope in the student's logits (n, vocabulary); ``s`` is used up.

    With p, q the softmax of s, t: the student's exponentials are taken once; log p - log q needs none.
    """
    top = s.amax(-1, keepdim=True)
    p = (s - top).exp_()
    mass = p.sum(-1, keepdim=True)
    p.div_(mass)
    log_mass_t = t.logsumexp(-1, keepdim=True)
    gap = s.sub_(t).sub_(top + mass.log() - log_mass_t)  # log p - log q
    if student_first:
        value = torch.linalg.vecdot(p, gap).unsqueeze(-1)
        return value, p.mul_(gap.sub_(value))
    q = (t - log_mass_t).exp_()
    return -torch.linalg.vecdot(q, gap).unsqueeze(-1), p.sub_(q)


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
