"""Rank classification against one forward pass per choice."""

from __future__ import annotations

import pytest
import torch

import reference
from anamnesis.engine import scoring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from tiny_models import ARCHITECTURES, shared, token_ids


def questions(name: str, shared_tokens: int = 16) -> list[Question]:
    """Prompts of several lengths with answers of 1 to 5 tokens, some of them what the model would say."""
    model = shared(name)
    start = token_ids(2, shared_tokens)[0]
    made = []
    for i, prompt in enumerate(token_ids(4, 13, 3, 9, 1, 21)):
        context = [*start, *prompt]
        likely = reference.greedy(model, context, 3)
        made.append(Question(context, [*token_ids(30 + i, 1, 4), likely[:1], likely, *token_ids(50 + i, 5)]))
    return made


def check(engine: PrefixEngine, asked: list[Question], budget: int) -> None:
    scores = score_questions(engine, asked, budget)
    assert len(scores) == len(asked)
    for question, score in zip(asked, scores, strict=True):
        expected = [reference.continuation(engine.model, question.context, c) for c in question.continuations]
        assert score.log_probability == pytest.approx([value for value, _ in expected], rel=1e-4, abs=1e-4)
        probabilities = torch.tensor(score.log_probability).exp()
        assert probabilities.numpy() == pytest.approx(
            torch.tensor([v for v, _ in expected]).exp().numpy(), abs=1e-5
        )
        assert list(score.greedy) == [hit for _, hit in expected]
        assert any(score.greedy)
        assert not all(score.greedy)


@pytest.mark.parametrize("shared_tokens", [0, 16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_equal_one_forward_per_choice(name, shared_tokens):
    check(PrefixEngine(shared(name)), questions(name, shared_tokens), budget=60)


@pytest.mark.parametrize("budget", [1, 10**6])
def test_batches_of_any_size_give_the_same_scores(budget):
    check(PrefixEngine(shared("mistral")), questions("mistral"), budget)


def test_prompts_equal_to_the_last_token_and_beginnings_of_others():
    """What all prompts share never swallows a whole prompt: its end must be left to predict from."""
    ids = token_ids(6, 12)[0]
    likely = reference.greedy(shared("llama"), ids, 2)
    answers = [likely, *token_ids(7, 3)]
    check(PrefixEngine(shared("llama")), [Question(ids, answers)], budget=100)
    check(PrefixEngine(shared("llama")), [Question(ids, answers)] * 3, budget=100)
    shorter = ids[:5]
    answers_of_shorter = [reference.greedy(shared("llama"), shorter, 1), *token_ids(8, 2)]
    check(
        PrefixEngine(shared("llama")),
        [Question(ids, answers), Question(shorter, answers_of_shorter)],
        budget=100,
    )


def test_shared_tokens_run_once(monkeypatch):
    engine, asked, seen = PrefixEngine(shared("llama")), questions("llama"), []
    inner = engine.model.forward

    def counted(*args, **kwargs):
        seen.append(kwargs["input_ids"].shape[1])
        return inner(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", counted)
    own = sum(len(q.context) - 16 + sum(len(c) - 1 for c in q.continuations) for q in asked)
    together = score_questions(engine, asked, own + 16)
    assert seen == [own + 16]
    seen.clear()
    apart = score_questions(engine, asked, own)  # no room for them in the same pass
    assert seen == [16, own]
    for one, other in zip(together, apart, strict=True):
        assert one.greedy == other.greedy
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


def test_no_questions_no_scores():
    assert score_questions(PrefixEngine(shared("llama")), [], 100) == []


def test_progress_counts_every_question():
    done = []
    score_questions(PrefixEngine(shared("llama")), questions("llama"), 40, done.append)
    assert sum(done) == 5
    assert len(done) > 1


def test_batch_that_does_not_fit_is_halved(monkeypatch):
    engine, asked, sizes = PrefixEngine(shared("llama")), questions("llama"), []
    whole = scoring.score_batch

    def small_memory(engine, batch, pack):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return whole(engine, batch, pack)

    monkeypatch.setattr(scoring, "score_batch", small_memory)
    check(engine, asked, 10**6)
    assert sizes[0] == 5
    assert max(sizes[1:]) < 5


def test_single_question_that_does_not_fit_is_reported(monkeypatch):
    def no_memory(*args):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(scoring, "score_batch", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        score_questions(PrefixEngine(shared("llama")), questions("llama"), 10**6)
