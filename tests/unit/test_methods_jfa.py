"""Joint flashback adaptation: losses and gradients against plain forwards of one prompt at a time,
projections by hand, and resuming.
"""

import pandas as pd
import pytest
import torch
from jfa_stages import (
    TRAINING,
    assert_same,
    gradients,
    moved,
    past,
    plain_answer_loss,
    plain_divergence,
    plain_logits,
    stage_of,
    task,
)
from torch.nn.functional import kl_div

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.engine.batches import Batch
from anamnesis.training.build import build
from anamnesis.training.loop import train_stage
from anamnesis.training.methods.jfa.flashbacks import choose_flashbacks, with_flashbacks
from anamnesis.training.methods.jfa.projection import PROJECTIONS, inner


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("base") / "model")


# --- losses


@pytest.mark.parametrize("latent", [True, False])
@pytest.mark.parametrize(("reduction", "divergence"), [("mean", "symmetric"), ("sum", "released")])
def test_both_losses_equal_forwards_of_one_prompt_at_a_time(snapshot, latent, reduction, divergence):
    stage = stage_of(snapshot, past=past(), latent_tasks=latent, reduction=reduction, divergence=divergence)
    method, objective = build("jfa", stage)
    batch = method.batches()[0]
    model, pool = method.stage.engine.model, getattr(method.stage.engine, "pool", None)
    with torch.no_grad():
        before = [plain_logits(model, pool, e, snapshot) for e in batch.flashbacks]
    moved(method)
    loss = objective(method.stage.engine, batch, 0.0)
    assert_same(method, loss.total, plain_answer_loss(method, batch.examples, snapshot))
    fast = loss.protected()
    assert fast > 0.01
    assert_same(method, fast, plain_divergence(method, batch.flashbacks, snapshot, before))


def test_increments_begin_at_zero_and_can_be_learnt(snapshot):
    method, objective = build("jfa", stage_of(snapshot))
    batch = method.batches()[0]
    loss = objective(method.stage.engine, batch, 0.0)
    plain, own = build("inclora", stage_of(snapshot))
    expected = own(plain.stage.engine, batch, 0.0).total
    torch.testing.assert_close(loss.total, expected, atol=1e-6, rtol=1e-6)
    slopes = dict(zip(method.stage.trainable, gradients(method, loss.total), strict=True))
    assert slopes["latent_tasks.up"].abs().max() > 0


@pytest.mark.parametrize("off", [{"flashbacks": 0}, {"alpha": 0.0}, {}])
def test_without_flashbacks_or_earlier_tasks_the_loss_is_plain(snapshot, off):
    stage = stage_of(snapshot, past=past() if off else {}, latent_tasks=False, **off)
    method, objective = build("jfa", stage)
    (batch, *_) = method.batches()
    assert batch.flashbacks == ()
    loss = objective(method.stage.engine, batch, 0.0)
    assert loss.protected is None
    torch.testing.assert_close(loss.total, plain_answer_loss(method, batch.examples, snapshot))


def test_flashbacks_are_prompts_of_every_task_in_turn_and_come_round_again(snapshot):
    stage = stage_of(snapshot, past=past(), latent_tasks=False, flashbacks=3)
    chosen = choose_flashbacks(stage, 3)
    assert [e.prompt[0] for e in chosen] == [41, 42] * 3
    assert len(set(chosen)) == 6
    assert all(e.new and not e.answer for e in chosen)
    assert chosen == choose_flashbacks(stage, 3)
    assert len(choose_flashbacks(stage, 99)) == 8
    batches = with_flashbacks([Batch(())] * 4, chosen, 4, stage.random("flashback order"))
    shown = [e for b in batches for e in b.flashbacks]
    assert len(shown) == 16
    assert set(shown[:6]) == set(shown[6:12]) == set(chosen)  # all of them before any comes again
    assert shown[:6] != shown[6:12]


@pytest.mark.parametrize("latent", [True, False])
def test_the_first_stage_has_flashbacks_of_what_the_model_knows_already(snapshot, latent):
    """As many of each set as of an earlier task; the loss is that of one prompt at a time."""
    known = {"arithmetic": task(3, new=False), "facts": task(4, new=False)}
    stage = stage_of(snapshot, past=known, latent_tasks=latent, flashbacks=3, flashbacks_per_step=6)
    assert stage.number == 1
    method, objective = build("jfa", stage)
    (batch, *_) = method.batches()
    assert sorted(e.prompt[0] for e in batch.flashbacks) == [43] * 3 + [44] * 3
    model, pool = method.stage.engine.model, getattr(method.stage.engine, "pool", None)
    with torch.no_grad():
        before = [plain_logits(model, pool, e, snapshot) for e in batch.flashbacks]
    moved(method)
    loss = objective(method.stage.engine, batch, 0.0)
    assert_same(method, loss.total, plain_answer_loss(method, batch.examples, snapshot))
    assert_same(method, loss.protected(), plain_divergence(method, batch.flashbacks, snapshot, before))


def test_a_task_without_flashbacks_is_refused(snapshot):
    stage = stage_of(snapshot, past={"first": task(1), "bare": []})
    with pytest.raises(UserError, match="flashbacks are asked from a task with none, bare"):
        build("jfa", stage)


def test_guidance_and_flashbacks_go_together(snapshot):
    """jfa-ivg: the guided loss is one loss, the flashbacks the other; the teacher has latent tasks too."""
    layer = torch.zeros(4, 12)
    layer[1] = torch.randn(12, generator=torch.Generator().manual_seed(1))
    kl = {
        "weight": 0.3, "teacher": "previous", "positions": "last_prompt", "direction": "student_teacher",
        "temperature": 1.0, "temperature_squared": False, "reduction": "sum",
    }  # fmt: skip
    guidance = {"kl": kl, "schedule": "linear", "plateau": 0.25, "intervention": False}
    method, objective = build("jfa", stage_of(snapshot, past=past()), guidance, {0: layer})
    model, pool, (batch, *_) = method.stage.engine.model, method.stage.engine.pool, method.batches()

    def last(example):
        return plain_logits(model, pool, example, snapshot)[len(example.prompt) - 1].log_softmax(-1)

    def add(module, args):
        x = args[0].clone()
        x[0, position] += layer.flatten()
        return (x,)

    taught = []
    for e in batch.examples:
        position = len(e.prompt) - 1
        hook = model.get_base_model().model.layers[0].self_attn.o_proj.register_forward_pre_hook(add)
        with torch.no_grad():
            taught.append(last(e))
        hook.remove()
    moved(method)
    loss = objective(method.stage.engine, batch, 0.0)
    terms = [
        kl_div(t, last(e), log_target=True, reduction="sum")
        for e, t in zip(batch.examples, taught, strict=True)
    ]
    plain = plain_answer_loss(method, batch.examples, snapshot) + 0.3 * torch.stack(terms).mean()
    assert loss.protected is not None
    assert_same(method, loss.total, plain)


# --- projections, worked by hand: gradients over two parameters of shapes (1,) and (2,)


def pair(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(part, dtype=torch.float32) for part in (values[:1], values[1:])]


@pytest.mark.parametrize(
    ("kind", "new", "protected", "expected"),
    [
        # <a, b> = -1, |a|² = 1, |b|² = 2: a + b/2 = (.5, .5, 0), b + a = (0, 1, 0)
        ("pcgrad", (1, 0, 0), (-1, 1, 0), (0.5, 1.5, 0)),
        ("agem", (1, 0, 0), (-1, 1, 0), (-0.5, 1.5, 0)),
        ("none", (1, 0, 0), (-1, 1, 0), (0, 1, 0)),
        # both = (0, 1, 0) is orthogonal to a, so that their mean is (a + both) / 2
        ("released", (1, 0, 0), (-1, 1, 0), (0.5, 0.5, 0)),
        # both = (-1, 1, 0): a + both/2 = (.5, .5, 0), both + a = (0, 1, 0), halved
        ("released", (1, 0, 0), (-2, 1, 0), (0.25, 0.75, 0)),
        # aligned and orthogonal: nothing gives way
        ("pcgrad", (1, 0, 2), (3, 1, 1), (4, 1, 3)),
        ("pcgrad", (1, 0, 0), (0, 2, 0), (1, 2, 0)),
        ("agem", (1, 0, 2), (3, 1, 1), (4, 1, 3)),
        ("released", (1, 0, 0), (0, 2, 0), (1, 1, 0)),
        # conflict in the sum over all parameters only: the first parameter alone agrees
        ("pcgrad", (1, 2, 0), (1, -1, 0), (1.5 + 1.2, 1.5 - 0.6, 0)),
        # no flashback gradient
        ("pcgrad", (1, 2, 3), (0, 0, 0), (1, 2, 3)),
    ],
)
def test_projections_by_hand(kind, new, protected, expected):
    found = PROJECTIONS[kind](pair(*new), pair(*protected))
    for ours, theirs in zip(found, pair(*expected), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["pcgrad", "none"])
def test_a_step_applies_the_combined_gradient(snapshot, tmp_path, kind):
    """One step of plain SGD against autograd and the projection, from outside."""
    changes = {"past": past(), "projection": kind, "alpha": 30.0}
    options = {**TRAINING, "optimizer": "torch.optim.SGD", "scheduler": "constant", "weight_decay": 0.0}

    def ready():
        method, objective = build("jfa", stage_of(snapshot, **changes))
        return moved(method), objective, method.batches()[0]

    method, objective, batch = ready()
    loss = objective(method.stage.engine, batch, 0.0)
    new = gradients(method, loss.total)
    old = gradients(method, loss.protected())
    assert inner(new, old) != 0
    step = PROJECTIONS[kind](new, old)
    norm = torch.stack([g.norm() for g in step]).norm()
    before = [p.detach().clone() for p in method.stage.trainable.values()]
    trained, objective, batch = ready()
    log = train_stage(trained.stage.engine, [batch], objective, options, 3, tmp_path / kind)
    for p, b, g in zip(trained.stage.trainable.values(), before, step, strict=True):
        torch.testing.assert_close(p.detach(), b - 0.01 * g / max(norm, 1.0), atol=1e-6, rtol=1e-5)
    assert log.protected.iloc[0] > 0


# --- resuming


class Killed(Exception):
    pass


def trained(snapshot, folder, dies_at: int | None = None):
    """A second stage with dropout, latent tasks and flashbacks; killed before a step if asked to."""
    stage = stage_of(snapshot, past=past(), dropout=0.2)
    method, objective = build("jfa", stage)
    calls = []

    def dying(engine, batch, progress):
        if len(calls) == dies_at:
            raise Killed
        calls.append(progress)
        return objective(engine, batch, progress)

    dying.combine, dying.world = objective.combine, objective.world
    log = train_stage(method.stage.engine, method.batches(), dying, TRAINING, 3, folder)
    return method, log


def test_a_killed_stage_continues_and_ends_with_the_same_bits(snapshot, tmp_path):
    whole, log = trained(snapshot, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(snapshot, tmp_path / "killed", dies_at=3)
    resumed, again = trained(snapshot, tmp_path / "killed")
    pd.testing.assert_frame_equal(log, again)
    start = build("jfa", stage_of(snapshot))[0].stage.trainable["latent_tasks.up"]
    assert not torch.equal(start, whole.stage.trainable["latent_tasks.up"])
    for (name, a), b in zip(whole.stage.trainable.items(), resumed.stage.trainable.values(), strict=True):
        assert torch.equal(a, b), name
