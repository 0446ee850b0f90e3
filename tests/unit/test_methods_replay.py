"""Experience replay: which examples come back, in which batches, and that guidance leaves them alone."""

from dataclasses import asdict

import pytest
import torch
from test_guidance import additions, assert_same, batch, move, plain_logits, plain_loss, tuned
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.build import build, method_class
from anamnesis.training.distillation import KlSettings
from anamnesis.training.stage import Stage

SIZES = {"verbs": 30, "plurals": 20, "capitals": 4}


def texts(seed: int, n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Prompts of 7 tokens that begin alike and end differently, with answers of 2."""
    beginning = tiny_models.token_ids(100 + seed, 4)[0]
    rows = tiny_models.token_ids(seed, *[5] * n)
    return [((*beginning, *row[:3]), tuple(row[3:])) for row in rows]


def stage_of(examples=None, past=None, seed: int = 0, model=None, epochs: int = 1, **settings) -> Stage:
    settings = {"share": 0.1, "when": "mixed", **settings}
    if past is None:
        past = {
            name: with_shared_prefix(texts(k, n), new=False) for k, (name, n) in enumerate(SIZES.items(), 1)
        }
    return Stage(
        PrefixEngine(model or tiny_models.shared("llama")),
        None,
        4,
        examples or with_shared_prefix(texts(0, 23)),
        settings,
        {"epochs": epochs, "batch_size": 4},
        seed,
        64,
        past,
    )


def batches(stage: Stage) -> list[Batch]:
    return method_class("replay")(stage).batches()


def old(batch: Batch) -> list[Example]:
    return [e for e in batch.examples if not e.new]


def from_task(stage: Stage, examples) -> dict[str, int]:
    return {name: sum(e in task for e in examples) for name, task in stage.past.items()}


@pytest.mark.parametrize(
    ("share", "counts"),
    [(0.1, [3, 2, 1]), (0.001, [1, 1, 1]), (0.5, [15, 10, 2]), (1.0, [30, 20, 4])],
)
@pytest.mark.parametrize("when", ["mixed", "after"])
def test_a_share_of_every_earlier_task_comes_back_and_at_least_one_example(share, counts, when):
    stage = stage_of(share=share, when=when)
    seen = [e for b in batches(stage) for e in old(b)]
    assert len(set(seen)) == len(seen) == sum(counts)
    assert list(from_task(stage, seen).values()) == counts


def test_replayed_examples_keep_the_beginning_they_share():
    assert {e.prefix_length for b in batches(stage_of()) for e in old(b)} == {4}


def test_they_are_mixed_evenly_into_batches_that_keep_their_own_examples():
    stage = stage_of(share=0.3)
    plain = method_class("inclora")(stage).batches()
    mixed = batches(stage)
    assert len(mixed) == len(plain) == 6
    for ours, theirs in zip(mixed, plain, strict=True):
        assert tuple(e for e in ours.examples if e.new) == theirs.examples
    assert sorted(len(old(b)) for b in mixed) == [2, 2, 3, 3, 3, 3]  # 9 + 6 + 1 = 16 over 6


def test_the_same_ones_come_back_in_every_epoch_in_a_new_order():
    mixed = batches(stage_of(share=0.3, epochs=3))
    epochs = [[e for b in mixed[6 * k : 6 * k + 6] for e in old(b)] for k in range(3)]
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_tasks_are_mixed_with_each_other():
    """The replayed examples of one task do not all come before those of the next."""
    stage = stage_of(share=0.5)
    order = [e in stage.past["verbs"] for b in batches(stage) for e in old(b)]
    assert order != sorted(order, reverse=True)


def test_afterwards_they_come_once_in_batches_of_their_own():
    stage = stage_of(share=0.3, when="after", epochs=2)
    plain = method_class("inclora")(stage).batches()
    ours = batches(stage)
    assert ours[: len(plain)] == plain
    assert [len(b.examples) for b in ours[len(plain) :]] == [4, 4, 4, 4]
    assert not any(e.new for b in ours[len(plain) :] for e in b.examples)


@pytest.mark.parametrize("when", ["mixed", "after"])
def test_the_first_stage_is_plain_training(when):
    stage = stage_of(past={}, when=when)
    assert batches(stage) == method_class("inclora")(stage).batches()


@pytest.mark.parametrize("when", ["mixed", "after"])
def test_seeds_repeat_and_differ(when):
    first = batches(stage_of(when=when))
    assert first == batches(stage_of(when=when))
    assert {e for b in first for e in old(b)} != {
        e for b in batches(stage_of(when=when, seed=1)) for e in old(b)
    }


@pytest.mark.parametrize("positions", ["all", "output"])
@pytest.mark.parametrize("teacher", ["previous", "current"])
@pytest.mark.parametrize("when", ["mixed", "after"])
def test_guidance_leaves_replayed_examples_alone(when, teacher, positions):
    """Replay-ivg: new answers under intervention, old ones plain, and the divergence over the new ones."""
    model, kl = tuned("llama"), KlSettings(0.5, positions)
    stage = stage_of(batch(), model=model, share=0.001, when=when)
    guidance = {"kl": {**asdict(kl), "teacher": teacher}, "schedule": "linear", "plateau": 0.25}
    method, objective = build("replay", stage, {**guidance, "intervention": True}, additions(model))
    move(model, seed=3)
    for step in method.batches():
        new, replayed = [e for e in batch() if e in step.examples], old(step)
        rows = [plain_logits(model, e)[len(e.prompt) - 1 :] for e in replayed]
        wanted = [t for e in replayed for t in e.answer]
        total = cross_entropy(torch.cat(rows), torch.tensor(wanted), reduction="sum") if rows else 0.0
        divergence = 0.0
        if new:
            answers = plain_loss(model, new, KlSettings(weight=0.0), teacher, 0.6)
            divergence = plain_loss(model, new, kl, teacher, 0.6) - answers
            total = total + answers * sum(len(e.answer) for e in new)
        count = sum(len(e.answer) for e in step.examples)
        fast = objective(stage.engine, step, 0.4)
        assert_same(model, fast.total, total / count + divergence)
