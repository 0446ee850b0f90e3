"""The forms of the arithmetic that a GPU gets, on the CPU: the same numbers, also when memory runs out."""

from __future__ import annotations

import pytest
import torch

from anamnesis.engine import attention, block_attention, likelihood
from anamnesis.engine.pack import Pack, Tree, halved_to_fit
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.training import divergence
from anamnesis.training.scores import Scores
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.interventions import intervene
from tiny_models import shared, token_ids

TRUNKS = token_ids(1, 11, 17, 5, 9)
QUESTIONS = [Question(trunk, token_ids(i, 3, 3)) for i, trunk in enumerate(TRUNKS)]
MEAN = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(3))


def everything(engine: PrefixEngine) -> list[torch.Tensor]:
    """Effects, means, interventions and scores of the questions, each in as few passes as possible."""
    effects = causal_effects(engine, QUESTIONS, list("abcd"), MEAN, 10**6)
    vectors = torch.randn(4, 2, 48, generator=torch.Generator().manual_seed(4))
    changed, clean = intervene(engine, QUESTIONS, vectors, [0, 2], 10**6)
    scores = score_questions(engine, QUESTIONS, 10**6)
    return [
        torch.tensor(effects[["p_clean", "p_patched", "log_effect"]].to_numpy()),
        mean_head_activations(engine, QUESTIONS, 10**6).mean.double(),
        torch.cat([changed.flatten(), clean]).double(),
        torch.tensor([s.log_probability for s in scores], dtype=torch.float64),
    ]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def small_memory(monkeypatch, engine: PrefixEngine, most: int) -> list[int]:
    """A device on which passes of more than ``most`` prompts fail; the prompts of each pass are noted."""
    whole, passes = engine._forward, []

    def forward(pack, chosen, keep):
        passes.append(len(pack.trees))
        if len(pack.trees) > most:
            raise torch.OutOfMemoryError
        return whole(pack, chosen, keep)

    monkeypatch.setattr(engine, "_forward", forward)
    return passes


def test_passes_that_do_not_fit_are_halved(monkeypatch):
    engine = PrefixEngine(shared("llama"))
    expected = everything(engine)
    passes = small_memory(monkeypatch, engine, 2)
    assert_same(everything(engine), expected)
    assert passes == [4, 2, 2] * 4


def test_a_prompt_that_does_not_fit_is_reported(monkeypatch):
    engine = PrefixEngine(shared("llama"))
    small_memory(monkeypatch, engine, 0)
    with pytest.raises(torch.OutOfMemoryError):
        causal_effects(engine, QUESTIONS, list("abcd"), MEAN, 10**6)


def test_every_item_is_worked_on_once_and_in_its_order():
    def work(batch: list[int]) -> int:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return sum(batch)

    assert list(halved_to_fit([[1, 2, 3, 4, 5], [6]], work)) == [([1, 2], 3), ([3], 3), ([4, 5], 9), ([6], 6)]


def test_own_keys_by_sums_of_products(monkeypatch):
    engine = PrefixEngine(shared("llama"))
    expected = everything(engine)
    monkeypatch.setattr(block_attention, "FEW", {"cpu": 8})
    assert_same(everything(engine), expected)


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3"])
@torch.no_grad()
def test_copied_keys_are_the_grouped_ones(name, monkeypatch):
    engine, seen = PrefixEngine(shared(name)), []
    pack = Pack(tuple(Tree(trunk, token_ids(5, 3, 2)) for trunk in TRUNKS), engine.prefill([3, 5, 8]))
    expected = engine.run(pack, range(pack.size))
    monkeypatch.setattr(attention, "knows_groups", lambda query, mask: seen.append(mask) or False)
    torch.testing.assert_close(engine.run(pack, range(pack.size)), expected, rtol=1e-4, atol=1e-4)
    assert seen


def test_long_chunks_of_logits(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(71, 37, generator=generator) for _ in range(2))
    weight = torch.rand(71, generator=generator)
    engine, found = PrefixEngine(shared("llama")), []
    for chunk, cached, scores in (
        (32 * 37, 5 * 37, 2**9),
        (divergence.GPU_CHUNK, divergence.GPU_CHUNK, likelihood.GPU_CHUNK_SCORES),
    ):
        monkeypatch.setattr(divergence, "CHUNK", chunk)
        monkeypatch.setattr(divergence, "CACHED", cached)
        monkeypatch.setattr(likelihood, "CHUNK_SCORES", scores)
        ours = student.clone().requires_grad_()
        value = (weight * divergence.divergence(Scores(ours), Scores(teacher), 2.0, "symmetric")).sum()
        value.backward()
        answers = [s.log_probability for s in score_questions(engine, QUESTIONS, 30)]
        found.append([value.detach(), ours.grad, torch.tensor(answers)])
    assert_same(*found)
