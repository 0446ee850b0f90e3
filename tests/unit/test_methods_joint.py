"""Joint training: all tasks so far, each example once an epoch, on the model before training."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from jfa_stages import LORA, assert_same, moved, past, plain_answer_loss, stage_of

import tiny_models
from anamnesis.models.loading import load_model
from anamnesis.training.build import build
from anamnesis.training.prepare import _with_adapter
from anamnesis.training.slices import slice_of


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("base") / "model")


def test_every_example_of_every_task_is_trained_on_once_an_epoch(snapshot):
    stage = stage_of(snapshot, past=past())
    method, _ = build("joint", stage)
    batches = method.batches()
    everything = [*stage.examples, *(e for examples in stage.past.values() for e in examples)]
    assert len(batches) == 2 * len(everything) // 2  # two epochs of two examples a batch
    for epoch in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        assert Counter(e for batch in epoch for e in batch.examples) == Counter(everything)
        assert any(len({e.prompt[0] for e in batch.examples}) > 1 for batch in epoch)  # mixed
    assert batches == build("joint", stage)[0].batches()
    assert (
        build("joint", stage_of(snapshot))[0].batches() == build("inclora", stage_of(snapshot))[0].batches()
    )


def test_the_loss_is_the_mean_over_the_answers_of_all_tasks(snapshot):
    method, objective = build("joint", stage_of(snapshot, past=past()))
    moved(method)
    batch = next(b for b in method.batches() if len({e.prompt[0] for e in b.examples}) > 1)
    found = objective(method.stage.engine, batch, 0.5)
    plain = plain_answer_loss(method, batch.examples, snapshot)
    assert_same(method, found.total, plain)  # and the gradients


def test_every_stage_starts_from_the_model_before_training(snapshot):
    """The rule gives it no earlier adapters, and its adapter is new and adds nothing at first."""
    needs, tokens = slice_of("joint").needs, torch.tensor(tiny_models.token_ids(3, 9))
    assert (needs.adapter, needs.past) == ("alone", True)
    base = load_model(snapshot, device="cpu")[0]
    expected = base(tokens).logits
    adapted = _with_adapter(base, [], {"adapter": "alone", "tuner": "lora"}, 3, {"lora": LORA}, {}, 0)
    assert torch.equal(adapted.eval()(tokens).logits, expected)


def test_all_examples_of_earlier_tasks_count_in_the_cost():
    tasks = [SimpleNamespace(train=10, example=30.0), SimpleNamespace(train=20, example=40.0)]
    stage = SimpleNamespace(epochs=2, past=tasks, trained=lambda tokens: tokens)
    assert slice_of("joint").extra_work(stage, {}) == 2 * (10 * 30 + 20 * 40)
