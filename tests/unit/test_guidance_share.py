"""The schedule of the intervention, and training in which only a share of a batch is learnt under it."""

from __future__ import annotations

import pytest
import torch
from test_guidance import (
    additions,
    assert_same,
    at_start,
    batch,
    move,
    plain_kl,
    plain_logits,
    stage_of,
    tuned,
)
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.data.prompts import generator
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.build import build
from anamnesis.training.distillation import KlSettings
from anamnesis.training.guidance import Intervention, strength
from anamnesis.training.loop import train_stage

KL = {
    "weight": 0.5, "positions": "all", "direction": "student_teacher", "temperature": 2.0,
    "temperature_squared": False, "reduction": "sum",
}  # fmt: skip
TRAINING = {
    "epochs": 3, "batch_size": 2, "gradient_accumulation": 2, "learning_rate": 0.01, "weight_decay": 0.0,
    "optimizer": "adamw_torch", "scheduler": "linear", "warmup_ratio": 0.0, "checkpoint_steps": 1,
}  # fmt: skip
OLD = Example(tuple(tiny_models.token_ids(8, 7)[0]), (5, 6), 3, new=False)


def half_guided(model, examples, teacher="previous", share=0.5, **kl):
    guidance = {
        "kl": {**KL, **kl, "teacher": teacher},
        "schedule": "linear",
        "plateau": 0.25,
        "intervention": True,
        "share": share,
    }
    return build("inclora", stage_of(model, examples), guidance, additions(model))[1]


def plain_loss(model, examples, guided, teacher: str, s: float, weight: float) -> torch.Tensor:
    """One forward pass for each answer, and two for each new example's divergence."""
    vectors, before = additions(model), at_start(model)
    kl, rows, wanted, terms = KlSettings(**KL), [], [], []
    for place, example in enumerate(examples):
        first = len(example.prompt) - 1
        strength = s if place in guided else 0.0
        rows.append(plain_logits(model, example, vectors, strength)[first:])
        wanted += example.answer
        if example.new:
            with torch.no_grad():
                taught = plain_logits(before if teacher == "previous" else model, example, vectors, 1.0)
            span = slice(0 if teacher == "previous" else first, None)
            terms.append(plain_kl(plain_logits(model, example)[span], taught[span], kl).sum())
    return cross_entropy(torch.cat(rows), torch.tensor(wanted)) + weight * torch.stack(terms).mean()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2", "neox"])
@pytest.mark.parametrize("teacher", ["previous", "current"])
def test_the_loss_is_that_of_each_example_with_and_without_intervention(name, teacher):
    model, examples = tuned(name), [OLD, *batch()]
    objective = half_guided(model, batch(), teacher)
    move(model, seed=3)
    guided = objective.intervention.guided(examples, 0.3)
    assert len(guided) == 2  # of three new ones
    loss = objective(PrefixEngine(model), Batch(tuple(examples)), 0.3)
    assert_same(model, loss.total, plain_loss(model, examples, guided, teacher, 0.7, 0.5))
    assert loss.parts["guided"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("guided", [{0}, {1}, {2}, {0, 2}])
def test_whichever_examples_are_drawn(guided, monkeypatch):
    model = tuned("llama")
    objective = half_guided(model, batch(), weight=0.0)
    move(model, seed=3)
    monkeypatch.setattr(Intervention, "guided", lambda self, examples, progress: frozenset(guided))
    loss = objective(PrefixEngine(model), Batch(tuple(batch())), 0.5)
    assert_same(model, loss.total, plain_loss(model, batch(), guided, "previous", 0.5, 0.0))


@pytest.mark.parametrize(
    ("share", "new", "expected"),
    [(0.5, 8, 4), (0.5, 7, 4), (0.5, 1, 1), (0.1, 4, 1), (0.3, 8, 2), (0.7, 8, 6), (1.0, 5, 5), (0.5, 0, 0)],
)
def test_so_many_of_the_new_examples_are_drawn_and_none_of_the_old(share, new, expected):
    examples = [OLD, *(Example((1, 2, i), (3,)) for i in range(new)), OLD]
    for progress in (0.0, 0.25, 0.5):
        found = Intervention({}, share=share, seed=3).guided(examples, progress)
        assert len(found) == expected
        assert found <= set(range(1, new + 1))


def test_the_draw_follows_from_seed_and_batch_alone():
    examples = [Example((1, 2, i), (3,)) for i in range(8)]
    intervention = Intervention({}, share=0.5, seed=3)
    draws = [intervention.guided(examples, step / 40) for step in range(40)]
    assert draws[::-1] == [intervention.guided(examples, step / 40) for step in range(40)][::-1]
    # the generator's seed: that of the stage, the purpose, the progress and the prompts of the new examples
    batch = [OLD, *examples[:3]]
    for progress in (0.0, 0.25, 0.5, 0.625, 0.75, 0.875):
        drawn = generator(3, "guided", progress, [e.prompt for e in examples[:3]]).permutation([1, 2, 3])
        assert intervention.guided(batch, progress) == set(drawn[:2].tolist())
    assert len(set(draws)) > 20  # anew for each batch
    assert draws != [Intervention({}, share=0.5, seed=4).guided(examples, step / 40) for step in range(40)]
    counts = [sum(place in drawn for drawn in draws) for place in range(8)]
    assert min(counts) > 8  # every place has its turns
    assert intervention.guided(examples[::-1], 0.0) != intervention.guided(examples, 0.0)


def test_all_are_guided_by_default():
    model = tuned("llama")
    assert half_guided(model, batch(), share=1.0).intervention.guided([OLD, *batch()], 0.2) == {1, 2, 3}
    loss = half_guided(model, batch(), share=1.0)(PrefixEngine(model), Batch(tuple(batch())), 0.2)
    assert "guided" not in loss.parts


def test_the_linear_schedule_goes_from_one_to_zero():
    assert [strength(u, "linear", 0.25) for u in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]


def test_the_plateau_schedule_holds_then_steps_then_ends():
    at = {u: strength(u, "plateau", 0.25) for u in (0.0, 0.24, 0.25, 0.251, 0.3, 0.5, 0.75, 0.76, 1.0)}
    assert at[0.0] == at[0.24] == at[0.25] == 1.0
    assert at[0.251] == pytest.approx(0.9)
    assert at[0.3] == pytest.approx(0.9)  # u - r = 0.05: exactly one step
    assert at[0.5] == pytest.approx(0.5)
    assert at[0.75] == pytest.approx(0.0)
    assert at[0.76] == at[1.0] == 0.0
    assert Intervention({}, "plateau", 0.2).strength(0.27) == pytest.approx(0.8)
    assert Intervention({}).strength(0.27) == pytest.approx(0.73)
    # another plateau: steps of 0.06 from 0.2 on
    assert [strength(u, "plateau", 0.2) for u in (0.19, 0.25, 0.27, 0.8)] == pytest.approx([1.0, 0.9, 0.8, 0])


class Killed(Exception):
    pass


def train(folder, killed_at: int | None = None):
    model = tuned("llama")
    stage = stage_of(model, batch())
    stage.training.update(TRAINING)
    guidance = {"kl": {**KL, "teacher": "previous"}, "schedule": "linear", "plateau": 0.25}
    method, objective = build(
        "inclora", stage, {**guidance, "intervention": True, "share": 0.5}, additions(model)
    )
    seen = []

    def dying(engine, of, progress):
        if len(seen) == killed_at:
            raise Killed
        seen.append(progress)
        return objective(engine, of, progress)

    dying.combine, dying.world = objective.combine, objective.world
    log = train_stage(stage.engine, method.batches(), dying, TRAINING, 3, folder)
    return log, {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def test_a_killed_stage_draws_the_same_examples_when_it_goes_on(tmp_path):
    log, weights = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", killed_at=4)
    again, continued = train(tmp_path / "killed")
    assert again.equals(log)
    assert set(log["guided"]) == {0.5, 1.0}  # one of two, one of one
    assert all(torch.equal(weights[name], continued[name]) for name in weights)
