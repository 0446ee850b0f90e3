"""The divergence by hand, and how many rows of logits are made at a time."""

from __future__ import annotations

from math import log

import pytest
import torch

from anamnesis.training import divergence as module
from anamnesis.training.divergence import DIRECTIONS, divergence
from anamnesis.training.scores import Scores

# two tokens: the student says 1/4 and 3/4, the teacher 4/5 and 1/5
STUDENT, TEACHER = [[log(0.25), log(0.75)]], [[log(0.8), log(0.2)]]
FORWARD = 0.25 * log(0.25 / 0.8) + 0.75 * log(0.75 / 0.2)
BACKWARD = 0.8 * log(0.8 / 0.25) + 0.2 * log(0.2 / 0.75)
# p_i·(log p_i/q_i − KL) of the student's probabilities p, and p_i − q_i
FORWARD_SLOPE, BACKWARD_SLOPE = 0.25 * (log(0.25 / 0.8) - FORWARD), 0.25 - 0.8
EXPECTED = {
    "student_teacher": (FORWARD, FORWARD_SLOPE),
    "teacher_student": (BACKWARD, BACKWARD_SLOPE),
    "symmetric": (FORWARD + BACKWARD, FORWARD_SLOPE + BACKWARD_SLOPE),
}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_tokens_by_hand(direction, temperature):
    value, slope = EXPECTED[direction]
    student = (temperature * torch.tensor(STUDENT)).requires_grad_()
    found = divergence(Scores(student), Scores(temperature * torch.tensor(TEACHER)), temperature, direction)
    assert found.tolist() == pytest.approx([value])
    (3 * found).sum().backward()
    wanted = [3 * slope / temperature, -3 * slope / temperature]  # the two of a softmax move apart
    assert student.grad[0].tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_gradient_reaches_the_teacher_nor_a_head(direction):
    head = torch.nn.Linear(3, 5)
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    divergence(Scores(student, head), Scores(teacher, head), 1.0, direction).sum().backward()
    assert student.grad.abs().min() > 0
    assert teacher.grad is None
    assert head.weight.grad is None


@pytest.mark.parametrize("with_head", [False, True])
def test_half_precision_is_compared_in_float32_and_has_a_gradient_of_its_own_type(with_head):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 16).requires_grad_(False) if with_head else None
    student, teacher = (torch.randn(6, 8).bfloat16() for _ in range(2))
    exact = student.float().requires_grad_()
    expected = divergence(Scores(exact, head), Scores(teacher.float(), head), 1.0, "student_teacher")
    expected.sum().backward()
    half = head.bfloat16() if head else None
    ours = student.clone().requires_grad_()
    found = divergence(Scores(ours, half), Scores(teacher, half), 1.0, "student_teacher")
    (torch.ones(6) @ found).backward()
    assert found.dtype == torch.float32
    assert ours.grad.dtype == torch.bfloat16
    tolerance = 3e-2 if with_head else 1e-6  # the head's own products are in half precision
    torch.testing.assert_close(found, expected.detach(), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(ours.grad.float(), exact.grad, atol=3e-2, rtol=3e-2)


class CountedHead(torch.nn.Linear):
    """Writes down of how many rows it is asked for logits."""

    rows: list[int]

    def forward(self, values):
        self.rows.append(len(values))
        return super().forward(values)


def counted(monkeypatch, rows: int) -> tuple[list[int], list[int]]:
    """(rows of each product with the head, rows of logits worked on at a time) for a vocabulary of 10."""
    worked_on, rows_of = [], module._rows

    def watched(s, t, direction):
        assert s.shape == t.shape
        worked_on.append(len(s))
        return rows_of(s, t, direction)

    monkeypatch.setattr(module, "_rows", watched)
    head = CountedHead(3, 10).requires_grad_(False)
    head.rows = []
    divergence(Scores(torch.randn(rows, 3), head), Scores(torch.randn(rows, 3), head), 1.0, "symmetric")
    return head.rows, worked_on


def test_products_and_parts_are_no_larger_than_memory_and_cache_allow(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 49)
    monkeypatch.setattr(module, "CACHED", 39)
    # products of 4 rows for student and teacher, each worked on in parts of 3
    assert counted(monkeypatch, 9) == ([4, 4, 4, 4, 1, 1], [3, 1, 3, 1, 1])


def test_a_row_larger_than_the_memory_for_one_product_is_a_product_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 9)
    monkeypatch.setattr(module, "CACHED", 3)
    assert counted(monkeypatch, 2) == ([1, 1, 1, 1], [1, 1])


def test_no_rows_have_no_divergence():
    assert divergence(Scores(torch.zeros(0, 5)), Scores(torch.zeros(0, 5)), 1.0, "symmetric").shape == (0,)


def test_a_gpu_takes_more_at_a_time_than_a_core_has_cache_for():
    assert module._logits_at_once(torch.device("cpu")) == (2**24, 2**19)
    assert module._logits_at_once(torch.device("cuda")) == (2**25, 2**23)
    assert isinstance(module._logits_at_once(torch.device("cuda"))[1], int)  # rows are counted with it
