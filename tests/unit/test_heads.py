"""Finding heads in a model: right places on every architecture, one clear line where there are none."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaAttention

import reference
from anamnesis.core.errors import UserError
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import Pack, PrefixEngine, Tree
from tiny_models import ARCHITECTURES, COMMON, build, shared


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_heads_are_where_the_architecture_keeps_them(name):
    model = shared(name)
    geometry = find_heads(model)
    assert (geometry.n_layers, geometry.n_heads, geometry.head_dim) == reference.head_shape(model)
    assert geometry.hidden_size == model.config.hidden_size
    assert list(geometry.projections) == reference.projections(model)
    assert list(geometry.blocks) == reference.blocks(model)
    assert geometry.fixed_length == (name == "gpt2")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_weight_maps_heads_as_the_projection_does(name):
    """The projection's output is the sum over heads of their slices, plus the bias, which is left out."""
    geometry = find_heads(shared(name))
    x = torch.randn(geometry.n_heads, geometry.head_dim, generator=torch.Generator().manual_seed(0))
    projection = geometry.projections[1]
    with torch.no_grad():
        expected = projection(x.reshape(1, 1, -1)) - projection(torch.zeros(1, 1, x.numel()))
    mapped = torch.einsum("hd,hdo->o", x, geometry.output_weight(1))
    torch.testing.assert_close(mapped, expected[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "target"), [("llama", "o_proj"), ("gpt2", "attn.c_proj")])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_output_weight_follows_the_adapter(name, target):
    plain = find_heads(build(name)).output_weight(1)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=[target], init_lora_weights=False)
    model = get_peft_model(build(name), config).eval()
    geometry = find_heads(model)
    adapted = geometry.output_weight(1)
    with model.disable_adapter():
        torch.testing.assert_close(geometry.output_weight(1), plain)
    merged = find_heads(model.merge_and_unload()).output_weight(1)
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-6)
    assert (adapted - plain).abs().max() > 0.01


@pytest.mark.parametrize(("layer", "head", "message"), [
    (3, 0, r"layer 3 does not exist: the model has 3 layers \(0-2\)"),
    (-1, 0, "layer -1 does not exist"),
    (1, 4, r"head 4 of layer 1 does not exist: the model has 4 heads a layer \(0-3\)"),
    (1, -1, "head -1 of layer 1"),
])  # fmt: skip
def test_missing_head_is_named(layer, head, message):
    with pytest.raises(UserError, match=message):
        find_heads(shared("llama")).check_head(layer, head)


def test_model_in_training_is_found_fit_and_left_in_its_mode():
    """Dropout is off while the heads are looked for, and each module gets its own mode back."""
    model = build("gpt2").train()  # its dropout is 0.1 everywhere
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert find_heads(model).n_heads == 4
    assert torch.equal(torch.rand(3), expected)  # no random number was used up
    assert [module.training for module in model.modules()] == modes


# ---------------------------------------------------------------- models that do not fit


class Tabled(nn.Module):
    """An output projection without a weight matrix of its own."""

    def __init__(self, inner: nn.Linear):
        super().__init__()
        self.parts = nn.ModuleList([inner])

    def forward(self, x):
        return self.parts[0](x).tanh()


class Scattered(nn.Module):
    """A decoder layer outside any ModuleList."""

    def __init__(self, layers: nn.ModuleList):
        super().__init__()
        self.only = layers[0]

    def __iter__(self):
        return iter([self.only])

    def __getitem__(self, index):
        return [self.only][index]


def without_projection() -> nn.Module:
    model = build("llama")
    attention = model.model.layers[1].self_attn
    attention.o_proj = Tabled(attention.o_proj)
    return model


def of_two_shapes(follows: bool = True) -> nn.Module:
    model = build("llama")
    config = type(model.config)(
        **{**model.config.to_dict(), "num_attention_heads": 2, "num_key_value_heads": 1}
    )
    config.head_dim = 12
    model.model.layers[1].self_attn = LlamaAttention(config, 1)
    if follows:
        model.model.layers[1].self_attn.config = model.config
    return model


def with_a_foreign_layer() -> nn.Module:
    """One layer's attention does not follow the model's choice of attention function."""
    return of_two_shapes(follows=False)


def outside_a_list() -> nn.Module:
    model = build("llama")
    model.model.layers = Scattered(model.model.layers)
    return model


def with_a_position_bias() -> nn.Module:
    model = build("llama")
    attention = model.model.layers[1].self_attn
    forward = attention.forward
    attention.forward = lambda *args, **kwargs: forward(*args, **kwargs, position_bias=torch.zeros(1))
    return model


def with_attention_of_its_own() -> nn.Module:
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=64,
            hidden_size=48,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()


def with_convolutions() -> nn.Module:
    kinds = ["conv", "full_attention", "full_attention"]
    return Lfm2ForCausalLM(Lfm2Config(**COMMON, num_key_value_heads=2, layer_types=kinds)).eval()


def with_a_parallel_convolution() -> nn.Module:
    """Every layer has attention, and one passes half of each token on to the next."""
    model = build("llama")
    model.model.layers[1].register_forward_hook(lambda module, args, out: out + out.roll(1, 1) / 2)
    return model


REFUSED = [
    (without_projection, "no output projection found in LlamaForCausalLM at 'model.layers.1.self_attn'"),
    (of_two_shapes, r"3 attention layers of \(heads, head size\) \[\(2, 12\), \(4, 12\)\]"),
    (outside_a_list, "is not inside a list of decoder layers"),
    (with_a_position_bias, "LlamaAttention uses a position bias"),
    (
        with_attention_of_its_own,
        "GPTNeoForCausalLM calls no attention through transformers' attention interface",
    ),
    (with_convolutions, "Lfm2ForCausalLM mixes tokens outside"),
    (with_a_parallel_convolution, "LlamaForCausalLM mixes tokens outside"),
    (with_a_foreign_layer, "LlamaForCausalLM mixes tokens outside"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_unfit_model_is_refused_in_one_line_and_left_as_it_was(make, message):
    model = make()
    before = model.config._attn_implementation, reference.hook_count(model)
    with pytest.raises(UserError, match=message) as caught:
        PrefixEngine(model)
    assert "\n" not in str(caught.value)
    assert "use a model" in str(caught.value)
    assert (model.config._attn_implementation, reference.hook_count(model)) == before


def test_model_that_skips_a_layer_is_noticed():
    """An engine made before a layer was taken out does not run on with wrong layer numbers."""
    model = build("llama")
    engine = PrefixEngine(model)
    model.config.num_hidden_layers = 2
    model.model.layers = model.model.layers[:2]
    with pytest.raises(UserError, match="2 of 3 layers used the shared-prefix attention"):
        engine.run(Pack((Tree([1, 2]),)), [0])
