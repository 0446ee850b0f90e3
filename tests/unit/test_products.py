"""Products by oneDNN are those of torch, with their gradients, and only where oneDNN may take them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as torch_linear

from anamnesis.models import products
from anamnesis.models.products import by_columns, fast_products, linear

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", torch.backends.mkldnn.is_available())


@pytest.fixture
def taken(monkeypatch):
    """Fills with the shapes that oneDNN multiplied."""
    shapes, inner = [], products._product

    def watched(x, weight, bias=None):
        shapes.append((tuple(x.shape), tuple(weight.shape)))
        return inner(x, weight, bias)

    monkeypatch.setattr(products, "_product", watched)
    return shapes


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_alike(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@needs_onednn
@pytest.mark.parametrize("shape", [(13,), (1, 13), (7, 13), (1, 5, 13), (2, 3, 13)])
@pytest.mark.parametrize("bias", [None, drawn(11, seed=2)], ids=["", "bias"])
def test_value_and_gradients(taken, shape, bias):
    weight, x = drawn(11, 13, seed=1), drawn(*shape).requires_grad_()
    found, wanted = (f(x, weight, bias) for f in (linear, torch_linear))
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)[0] for y in (found, wanted)]
    assert_alike(*slopes)
    assert_alike(*(torch.autograd.grad(slope.pow(2).sum(), x)[0] for slope in slopes))
    assert taken[:2] == [(shape, (11, 13)), ((*shape[:-1], 11), (13, 11))]


@needs_onednn
def test_tensors_that_are_parts_of_others(taken):
    x, weight = drawn(13, 7).t(), drawn(40, 13, seed=1)[5:16]
    torch.testing.assert_close(linear(x, weight), torch_linear(x, weight))
    torch.testing.assert_close(linear(x, drawn(13, 11).t()), torch_linear(x, drawn(13, 11).t()))
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (drawn(3, 4).double(), drawn(5, 4).double()),
        (drawn(3, 4).bfloat16(), drawn(5, 4).bfloat16()),
        (drawn(0, 4), drawn(5, 4)),
        (drawn(3, 4).to("meta"), drawn(5, 4).to("meta")),
        (drawn(3, 4), nn.Parameter(drawn(5, 4))),
    ],
    ids=["float64", "bfloat16", "no rows", "meta", "trained"],
)
def test_all_else_is_left_to_torch(taken, x, weight):
    found, wanted = linear(x, weight), torch_linear(x, weight)
    assert (found.shape, found.dtype, found.device) == (wanted.shape, wanted.dtype, wanted.device)
    assert found.requires_grad == wanted.requires_grad
    assert not taken


def test_autocast_is_left_to_torch(taken):
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(drawn(3, 4), drawn(5, 4)).dtype == torch.bfloat16
    assert not taken


def test_trained_weights_are_left_to_torch_in_all_modes(taken):
    with torch.no_grad():
        linear(drawn(3, 4), nn.Parameter(drawn(5, 4)))
    assert not taken


def test_trained_weights_get_their_gradient():
    weight, x = nn.Parameter(drawn(5, 4)), drawn(3, 4)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(5, 4))


@needs_onednn
def test_layers_use_them_inside_the_context_only(taken):
    layer, x = nn.Linear(4, 5).requires_grad_(False), drawn(3, 4)
    with fast_products():
        torch.testing.assert_close(layer(x), torch_linear(x, layer.weight, layer.bias))
    assert taken == [((3, 4), (5, 4))]
    layer(x)
    assert len(taken) == 1
    with pytest.raises(ZeroDivisionError), fast_products():
        _ = 1 / 0
    assert nn.functional.linear is torch_linear


@pytest.mark.parametrize(("text", "amd"), [("vendor_id : AuthenticAMD\n", True), ("GenuineIntel", False)])
def test_which_processors(monkeypatch, text, amd):
    monkeypatch.setattr(products.Path, "read_text", lambda *_, **__: text)
    assert products._is_faster() == (amd and torch.backends.mkldnn.is_available())


def test_a_system_that_does_not_say(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(products.Path, "read_text", missing)
    assert not products._is_faster()


@needs_onednn
@pytest.mark.parametrize("rows", [2, 7, 64, 300, 2048])
def test_weights_by_columns_give_the_same_numbers(rows):
    """Bit for bit, for layers as large as those of the default model. One row alone is another sum."""
    for out, size in ((576, 576), (192, 576), (1536, 576), (576, 1536)):
        x, weight = drawn(rows, size), drawn(out, size, seed=1)
        assert torch.equal(linear(x, weight.t().contiguous().t()), linear(x, weight))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(7, 4), nn.Linear(4, 5, bias=False)
        self.double, self.head = nn.Linear(4, 5).double(), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


@needs_onednn
def test_which_weights_are_stored_by_columns(monkeypatch):
    net = Net()
    ((name, weight),) = by_columns(net)
    assert name == "layer"
    assert weight.t().is_contiguous()
    assert not weight.requires_grad
    assert torch.equal(weight, net.layer.weight)
    monkeypatch.setattr(products, "ONEDNN", False)
    assert not list(by_columns(net))
