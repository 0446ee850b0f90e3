"""The divergence from the model before training, and ASFT's token weights, against a few plain lines."""

from __future__ import annotations

import pytest
import torch
from jfa_stages import assert_same, moved, stage_of
from torch.nn.functional import cross_entropy, kl_div

import tiny_models
from anamnesis.config.methods import Methods
from anamnesis.engine.batches import Batch
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.models.loading import load_model
from anamnesis.training.build import build
from anamnesis.training.methods.kl_base.method import untrained
from anamnesis.training.slices import slice_of

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
SETTINGS = getattr(Methods(), "kl-base").model_dump(mode="json")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def earlier(snapshot, tmp_path_factory):
    """The adapter of a first stage, which has changed the model much."""
    model, folder = (
        add_lora(load_model(snapshot, device="cpu")[0], LORA, 5),
        tmp_path_factory.mktemp("stage1"),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    save_adapter(model, folder, "tiny", [])
    return [folder]


def logits_of(model, example) -> torch.Tensor:
    return model(input_ids=torch.tensor([[*example.prompt, *example.answer[:-1]]])).logits[0]


def plain_loss(method, base, examples) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of the answers, divergence), one forward of each model for each example."""
    own, losses, divergences = method.stage.settings, [], []
    for example in examples:
        now, before = logits_of(method.stage.engine.model, example), logits_of(base, example).detach()
        first = len(example.prompt) - 1
        loss = cross_entropy(now[first:], torch.tensor(example.answer), reduction="none")
        losses.append(torch.exp(-loss).detach() * loss if own["token_weights"] else loss)
        p, q = ((x / own["temperature"]).log_softmax(-1) for x in (now, before))
        if own["direction"] == "student_teacher":
            p, q = q, p
        rows = kl_div(p, q, log_target=True, reduction="none").sum(-1)
        rows = {"all": rows, "output": rows[first:], "last_prompt": rows[first : first + 1]}[own["positions"]]
        divergences.append(rows.mean())
    return torch.cat(losses).mean(), own["weight"] * torch.stack(divergences).mean()


CASES = {
    "default": {},
    "asft": {"token_weights": True, "weight": 0.1},
    "all positions, reversed, warm": {"positions": "all", "direction": "student_teacher", "temperature": 2.0},
    "last prompt token": {"positions": "last_prompt", "weight": 0.3},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
@pytest.mark.parametrize("number", [1, 2])
def test_loss_and_gradient_are_those_of_plain_forwards(snapshot, earlier, number, changes):
    stage = stage_of(snapshot, earlier if number == 2 else (), **{**SETTINGS, **changes})
    method, objective = build("kl-base", stage)
    moved(method)
    batch = Batch(tuple(stage.examples))
    found = objective(stage.engine, batch, 0.5)
    base, _ = load_model(snapshot, device="cpu")
    answers, divergence = plain_loss(method, base, batch.examples)
    assert divergence > 1e-2
    assert found.parts["answer"] == pytest.approx(float(answers.detach()), abs=1e-5)
    assert found.parts["base"] == pytest.approx(float(divergence.detach()), abs=1e-5)
    assert_same(method, found.total, answers + divergence)  # and the gradients


def test_the_model_before_training_is_put_back_for_the_teacher_only(snapshot, earlier):
    stage, tokens = stage_of(snapshot, earlier, **SETTINGS), torch.tensor(tiny_models.token_ids(3, 9))
    base, model = load_model(snapshot, device="cpu")[0], stage.engine.model.eval()
    now, start = model(tokens).logits, untrained(stage)
    with start.active():
        torch.testing.assert_close(model(tokens).logits, base(tokens).logits, atol=1e-6, rtol=1e-6)
    assert torch.equal(model(tokens).logits, now)
    assert (now - base(tokens).logits).abs().max() > 1e-2


def test_reading_the_snapshot_draws_no_random_number(snapshot, earlier):
    stage = stage_of(snapshot, earlier, **SETTINGS)
    torch.manual_seed(3)
    untrained(stage)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_without_weight_the_loss_is_that_of_the_answers(snapshot):
    stage = stage_of(snapshot, **{**SETTINGS, "weight": 0})
    _, objective = build("kl-base", stage)
    loss = objective(stage.engine, Batch(tuple(stage.examples)), 0.0)
    assert set(loss.parts) == {"answer"}


def test_several_gpus_for_a_model_are_refused():
    problems = slice_of("kl-base").process_problems
    (message,) = problems(SETTINGS, "kl-base", 2, 2)
    assert "methods.kl-base.weight = 1 (for kl-base)" in message
    assert "model.gpus = 2 to 1" in message
    assert not [*problems(SETTINGS, "kl-base", 2, 1), *problems({**SETTINGS, "weight": 0}, "kl-base", 2, 2)]
