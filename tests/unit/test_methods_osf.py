"""Orthogonal subspace fine-tuning: what PEFT's tuner leaves alone, through our loop, and its settings."""

import pytest
import torch

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_osf
from anamnesis.training.loop import train_stage
from anamnesis.training.objectives import Objective

TARGETS = ["q_proj", "v_proj"]
SETTINGS = {
    "epochs": 1, "batch_size": 3, "gradient_accumulation": 1, "learning_rate": 0.3, "weight_decay": 0.0,
    "optimizer": "torch.optim.SGD", "scheduler": "constant", "warmup_ratio": 0.0, "checkpoint_steps": 1000,
}  # fmt: skip


def weights_of(model) -> dict[str, torch.Tensor]:
    return {n: m.weight.detach().clone() for n, m in model.named_modules() if n.endswith(tuple(TARGETS))}


def trained(preserved: float, folder):
    """(weights of the targets before, after three steps of plain gradient descent) of a tiny model."""
    model = tiny_models.build("llama")
    before = weights_of(model)
    tuned = add_osf(model, TARGETS, preserved)
    examples = with_shared_prefix([(tuple(t[:-2]), tuple(t[-2:])) for t in tiny_models.token_ids(3, 9, 7)])
    train_stage(PrefixEngine(tuned), [Batch(tuple(examples))] * 3, Objective(()), SETTINGS, 0, folder)
    return before, weights_of(tuned.merge_and_unload())


def test_the_largest_directions_stay_as_they_are(tmp_path):
    before, after = trained(0.5, tmp_path)
    for name, old in before.items():
        u, s, v = torch.linalg.svd(old, full_matrices=False)
        kept = s.numel() // 2
        change = after[name] - old
        assert change.abs().max() > 1e-4
        # what is learnt neither reads from the preserved directions nor writes to them
        assert (change @ v[:kept].T).abs().max() < 1e-4 * change.abs().max()
        assert (u[:, :kept].T @ change).abs().max() < 1e-4 * change.abs().max()


def test_a_larger_share_leaves_less_to_train():
    sizes = []
    for preserved in (0.25, 0.5, 0.75):
        model = add_osf(tiny_models.build("llama"), TARGETS, preserved)
        sizes.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_share_that_preserves_nothing_is_refused():
    with pytest.raises(UserError, match=r"methods.osf.preserved = 0\.01: .* none would be preserved"):
        add_osf(tiny_models.build("llama"), TARGETS, 0.01)


def test_layers_that_are_not_linear_are_refused():
    with pytest.raises(UserError, match="osf cannot adapt c_attn of GPT2LMHeadModel"):
        add_osf(tiny_models.build("gpt2"), ["c_attn"], 0.5)
