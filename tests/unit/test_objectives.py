"""What a training step minimises, with a forward pass whose logits are known: every number by hand."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace

import pytest
import torch

from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.training import objectives
from anamnesis.training.guidance import Intervention
from anamnesis.training.objectives import Objective, answer_tokens
from anamnesis.training.student import PassNeeds, Student
from anamnesis.training.world import World

VOCABULARY = 5
ENGINE = SimpleNamespace(device=torch.device("cpu"))
# two of the new task, one replayed, a third of the new task
BATCH = [
    Example((9,), (1, 2)),
    Example((8,), (3,)),
    Example((7,), (4, 1, 1), new=False),
    Example((6,), (2,)),
]
ADDITIONS = {0: torch.ones(1, 1)}


def loss_of_token(token: int) -> float:
    """Cross-entropy of the token t where its logit is t and all others are 0."""
    return log(exp(token) + VOCABULARY - 1) - token


MEAN_LOSS = sum(loss_of_token(t) for e in BATCH for t in e.answer) / 7


@pytest.fixture
def passes(monkeypatch) -> list[SimpleNamespace]:
    """What each forward pass was asked for."""
    asked = []

    def run(engine, examples, progress, needs, additions, strength, chosen):
        asked.append(
            SimpleNamespace(
                engine=engine,
                examples=list(examples),
                progress=progress,
                needs=needs,
                additions=additions,
                strength=strength,
                chosen=set(chosen),
            )
        )
        order = sorted(examples, key=lambda e: not e.new)
        tokens = torch.tensor([t for e in order for t in e.answer])
        logits = torch.nn.functional.one_hot(tokens, VOCABULARY) * tokens[:, None]
        return Student(order, [e for e in order if e.new], progress, logits.float())

    monkeypatch.setattr(objectives, "run_student", run)
    return asked


class First:
    """A term of the new examples: the mean of their first answer tokens, half of it."""

    name = "first"
    needs = PassNeeds("output")

    def __call__(self, student):
        tokens = [e.answer[0] for e in student.examples]
        return torch.tensor(0.5 * sum(tokens) / len(tokens)) if tokens else torch.tensor(0.0)


class Weights:
    """A term of the weights alone."""

    name = "weights"
    needs = PassNeeds()

    def __call__(self, student):
        return torch.tensor(0.25)


class Heads(First):
    name = "heads"
    needs = PassNeeds(heads=True)


def over_all(objective: Objective, examples, size: int, progress: float = 0.3):
    """(sum of the losses, sums of their parts) of all processes."""
    losses = []
    for rank in range(size):
        objective.world = World(rank, size)
        losses.append(objective(ENGINE, Batch(tuple(examples)), progress))
    names = losses[0].parts
    assert all(loss.parts.keys() == names.keys() for loss in losses)
    return sum(loss.total for loss in losses), {n: sum(loss.parts[n] for loss in losses) for n in names}


@pytest.mark.parametrize("size", [1, 2, 3, 6])  # of six processes, two have no example
def test_the_loss_is_the_mean_over_answer_tokens_and_terms_are_means_over_new_examples(passes, size):
    total, parts = over_all(Objective([First(), Weights()]), BATCH, size)
    first = 0.5 * (1 + 3 + 2) / 3
    assert parts == pytest.approx({"answer": MEAN_LOSS, "first": first, "weights": 0.25})
    assert total.item() == pytest.approx(MEAN_LOSS + first + 0.25)


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_of_replayed_examples_has_terms_of_the_weights_only(passes, size):
    old = [Example((7,), (4, 1), new=False), Example((5,), (3,), new=False)]
    total, parts = over_all(Objective([First(), Weights()], Intervention(ADDITIONS, share=0.5)), old, size)
    mean = sum(map(loss_of_token, (4, 1, 3))) / 3
    expected = {"answer": mean, "strength": 0.7, "guided": 0.0, "first": 0.0, "weights": 0.25}
    assert parts == pytest.approx(expected)
    assert total.item() == pytest.approx(mean + 0.25)


def test_the_term_of_one_new_example_counts_whole(passes):
    _, parts = over_all(Objective([First()]), BATCH[1:3], 2)
    assert parts["first"] == pytest.approx(0.5 * 3)


def test_one_forward_pass_serves_all_terms(passes):
    Objective([First(), Weights(), Heads()])(ENGINE, Batch(tuple(BATCH)), 0.3)
    (only,) = passes
    assert only.needs == PassNeeds("output", None, True)
    assert only.engine is ENGINE
    assert (only.progress, only.examples) == (0.3, BATCH)


def test_without_an_intervention_nothing_is_added(passes):
    loss = Objective()(ENGINE, Batch(tuple(BATCH)), 0.3)
    (only,) = passes
    assert (only.additions, only.strength, only.chosen, only.needs) == (None, 0.0, set(), PassNeeds())
    assert loss.parts == pytest.approx({"answer": MEAN_LOSS})
    assert loss.total.item() == pytest.approx(MEAN_LOSS)
    assert loss.protected is None


@pytest.mark.parametrize("size", [1, 2])
def test_all_new_examples_are_learnt_under_intervention(passes, size):
    _, parts = over_all(Objective([], Intervention(ADDITIONS)), BATCH, size, progress=0.25)
    assert parts == pytest.approx({"answer": MEAN_LOSS, "strength": 0.75})
    # each process counts the places of its own share: 0, 2 and 1, 3 of four with the third replayed
    assert [p.chosen for p in passes] == ([{0, 1, 3}] if size == 1 else [{0}, {0, 1}])
    assert all(p.additions is ADDITIONS and p.strength == 0.75 for p in passes)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_share_under_intervention_is_that_of_the_whole_batch(passes, size, monkeypatch):
    monkeypatch.setattr(Intervention, "guided", lambda self, examples, progress: frozenset({0, 3}))
    _, parts = over_all(Objective([], Intervention(ADDITIONS, share=0.6)), BATCH, size)
    assert parts == pytest.approx({"answer": MEAN_LOSS, "strength": 0.7, "guided": 2 / 3})
    assert [p.chosen for p in passes] == {1: [{0, 3}], 2: [{0}, {1}], 3: [{0, 1}, set(), set()]}[size]


def test_the_draw_is_made_from_the_whole_batch_at_its_progress(passes, monkeypatch):
    asked = []

    def drawn(self, examples, progress):
        asked.append((list(examples), progress))
        return frozenset({1})

    monkeypatch.setattr(Intervention, "guided", drawn)
    over_all(Objective([], Intervention(ADDITIONS, share=0.6)), BATCH, 2, progress=0.5)
    assert asked == [(BATCH, 0.5)] * 2


def test_two_gradients_are_added_parameter_by_parameter():
    new, protected = (
        [torch.tensor([1.0, 2.0]), torch.tensor(3.0)],
        [torch.tensor([5.0, 7.0]), torch.tensor(11.0)],
    )
    found = Objective().combine(new, protected)
    assert [g.tolist() for g in found] == [[6.0, 9.0], 14.0]
    with pytest.raises(ValueError, match="shorter"):
        Objective().combine(new, protected[:1])


def test_answer_tokens_follow_the_rows():
    assert answer_tokens(BATCH, torch.device("cpu")).tolist() == [1, 2, 3, 4, 1, 1, 2]


def test_answer_tokens_lie_where_the_model_does(passes):
    class Watching(Objective):
        def answer_loss(self, logits, tokens):
            self.device = tokens.device
            return torch.tensor(0.0)

    objective = Watching()
    objective(SimpleNamespace(device=torch.device("meta")), Batch(tuple(BATCH)), 0.0)
    assert objective.device.type == "meta"
