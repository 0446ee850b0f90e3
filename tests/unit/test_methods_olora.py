"""Orthogonal low-rank adaptation: overlap and norm against references of a few lines, and by hand."""

import pytest
import torch
from safetensors.torch import load_file

import tiny_models
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.training.build import build
from anamnesis.training.methods.olora.method import Norm, Overlap
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.training.student import PassNeeds

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def tuned(seed: int, moved: bool = True):
    lora = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    model = add_lora(tiny_models.build("llama"), lora, seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(model).values():
            if moved:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise))
    return model.train()


def trained(model) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture
def earlier(tmp_path):
    """Folders of the adapters of two stages."""
    folders = [tmp_path / "stage1", tmp_path / "stage2"]
    for seed, folder in enumerate(folders, 20):
        save_adapter(tuned(seed), folder, "tiny", [])
    return folders


def stage_of(model, number: int = 3, earlier=(), lambda1=0.5, lambda2=0.0) -> Stage:
    tokens = tiny_models.token_ids(3, 9, 7)
    task = with_shared_prefix([(tuple(t[:-2]), tuple(t[-2:])) for t in tokens])
    settings, training = {"lambda1": lambda1, "lambda2": lambda2}, {"epochs": 1, "batch_size": 8}
    return Stage(PrefixEngine(model), None, number, task, settings, training, 0, 64, {}, earlier)


def plain_overlap(model, folders) -> torch.Tensor:
    """Entry by entry of earlier adapters, one module after the other."""
    total = torch.zeros(())
    for folder in folders:
        for name, old in load_file(folder / "adapter_model.safetensors").items():
            if "lora_A" in name:
                new = trained(model)[name.replace("lora_A.weight", "lora_A.default.weight")]
                total = total + sum((a * b).sum().abs() for a in old for b in new)
    return total


def plain_norm(model) -> torch.Tensor:
    return sum((p**2).sum().sqrt() for p in trained(model).values())


def assert_same(model, ours: torch.Tensor, plain: torch.Tensor) -> None:
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    parameters = list(trained(model).values())
    for mine, theirs in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(plain, parameters), strict=True
    ):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_overlap_by_hand():
    """(1 0 2) and (0 3 0), of two adapters, against (1 -1 0; 0 0 5): products 1, 10, -3, 0."""
    new = torch.nn.Parameter(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 5.0]]))
    rows = ([[1.0, 0.0, 2.0]], [[0.0, 3.0, 0.0]])
    adapters = [{f"{LAYER}.lora_A.weight": torch.tensor(row)} for row in rows]
    overlap = Overlap(0.5, {f"{LAYER}.lora_A.default.weight": new}, adapters)
    overlap().backward()
    assert overlap().item() == 0.5 * 14
    assert new.grad.tolist() == [[0.5, -1.5, 1.0], [0.5, 0.0, 1.0]]


def test_norm_by_hand():
    new = {
        f"{LAYER}.lora_A.default.weight": torch.nn.Parameter(torch.tensor([[3.0], [4.0]])),
        f"{LAYER}.lora_B.default.weight": torch.nn.Parameter(torch.zeros(2, 2)),
        "something.else": torch.nn.Parameter(torch.ones(3)),
    }
    norm = Norm(0.1, new)
    norm().backward()
    assert norm().item() == pytest.approx(0.5)
    slopes = [p.grad for p in new.values()]
    torch.testing.assert_close(slopes[0], torch.tensor([[0.06], [0.08]]))
    assert slopes[1].abs().max() == 0
    assert slopes[2] is None


def test_value_and_gradient_with_two_earlier_adapters(earlier):
    model = tuned(1)
    stage = stage_of(model, 3, earlier, lambda1=0.5, lambda2=0.3)
    _, objective = build("olora", stage)
    assert [(term.name, term.needs) for term in objective.terms] == [
        ("overlap", PassNeeds()),
        ("norm", PassNeeds()),
    ]
    batch = Batch(tuple(stage.examples))
    loss = objective(stage.engine, batch, 0.0)
    answer = Objective()(stage.engine, batch, 0.0).total
    assert loss.parts["overlap"] == pytest.approx(0.5 * plain_overlap(model, earlier).item(), rel=1e-5)
    assert loss.parts["norm"] == pytest.approx(0.3 * plain_norm(model).item(), rel=1e-5)
    assert_same(model, loss.total, answer + 0.5 * plain_overlap(model, earlier) + 0.3 * plain_norm(model))


def test_descent_on_the_overlap_makes_adapters_more_orthogonal(earlier):
    model = tuned(1)
    (overlap,) = build("olora", stage_of(model, 3, earlier))[1].terms
    before = overlap().item()
    optimizer = torch.optim.SGD(trained(model).values(), lr=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        overlap().backward()
        optimizer.step()
    assert overlap().item() < 0.4 * before
    assert all(old.grad is None for old, _ in overlap.pairs)


def test_the_first_stage_has_no_overlap():
    model = tuned(1)
    assert build("olora", stage_of(model, 1))[1].terms == []
    (norm,) = build("olora", stage_of(model, 1, lambda2=0.2))[1].terms
    torch.testing.assert_close(norm(), 0.2 * plain_norm(model))


def test_a_fresh_adapter_has_finite_gradients(earlier):
    """Its second factors are zero, where a norm has no derivative."""
    model = tuned(1, moved=False)
    stage = stage_of(model, 3, earlier, lambda2=1.0)
    build("olora", stage)[1](stage.engine, Batch(tuple(stage.examples)), 0.0).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in trained(model).values())


@pytest.mark.parametrize(("number", "expected"), [(2, [0.5]), (3, [5.0, 0.3])])
def test_weights_may_differ_from_stage_to_stage(earlier, number, expected):
    lambdas = {"lambda1": [0.0, 0.5, 5.0], "lambda2": [0.0, 0.0, 0.3]}
    stage = stage_of(tuned(1), number, earlier[: number - 1], **lambdas)
    assert [term.weight for term in build("olora", stage)[1].terms] == expected
