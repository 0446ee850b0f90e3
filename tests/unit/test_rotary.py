"""Rotary tables that depend on the longest text of a row: exact up to where they change, refused beyond.

Without the limit a prefix of 30 tokens and a branch of 6, or texts of 40 and 10 tokens in a row, give logits
that differ from plain forward passes by about the largest of them.
"""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
)

import reference
from anamnesis.core.errors import UserError
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine
from tiny_models import COMMON, GROUPED, drawn, token_ids

SWITCH = 32
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 6, "long_factor": [4.0] * 6,
    "original_max_position_embeddings": SWITCH,
}  # fmt: skip
SIZES = {**GROUPED, "max_position_embeddings": 128}


def longrope() -> torch.nn.Module:
    config = Phi3Config(**SIZES, original_max_position_embeddings=SWITCH, rope_parameters=LONG)
    return drawn(Phi3ForCausalLM(config))


def of_experts() -> torch.nn.Module:
    """The switch scales the table as well."""
    rotary = {**LONG, "short_mscale": 1.0, "long_mscale": 2.0}
    config = PhimoeConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1, rope_parameters=rotary)
    return drawn(PhimoeForCausalLM(config))


def dynamic() -> torch.nn.Module:
    rotary = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    config = LlamaConfig(**{**GROUPED, "max_position_embeddings": SWITCH + 1}, rope_parameters=rotary)
    return drawn(LlamaForCausalLM(config))


def one_kind_of_layer() -> torch.nn.Module:
    """Only the full layers have such a table."""
    sliding = {"rope_type": "default", "rope_theta": 1e4}
    config = Gemma3TextConfig(
        **{**COMMON, "max_position_embeddings": 128}, num_key_value_heads=2, head_dim=12, sliding_window=64,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": LONG, "sliding_attention": sliding},
    )  # fmt: skip
    return drawn(Gemma3ForCausalLM(config))


SWITCHING = [longrope, of_experts, dynamic, one_kind_of_layer]
ANY_LENGTH = {
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": SWITCH},
    "llama3": {
        "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": SWITCH,
    },
    "proportional": {"partial_rotary_factor": 0.5},
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("make", SWITCHING)
def test_up_to_the_switch_every_text_is_as_in_a_plain_forward(make):
    model = make()
    engine, (text, other, branch) = PrefixEngine(model), token_ids(1, SWITCH, 10, 6)
    reference.logits(model, [*text, *text])  # what a longer text leaves in the model is not used
    pack = Pack((Tree(text[26:]), Tree(branch[:2], [branch[2:], branch[:3]])), engine.prefill(text[:26]))
    found = engine.run(pack, range(pack.size))
    reference.close(found[:6], reference.logits(model, text)[26:])
    expected = reference.logits(model, [*text[:26], *branch])
    reference.close(found[6:12], expected[26:])
    pack = Pack((Tree(text), Tree(other)))
    found = engine.run(pack, range(pack.size))
    reference.close(found[:SWITCH], reference.logits(model, text))
    reference.close(found[SWITCH:], reference.logits(model, other))
    (answers,) = generate(engine, [Request([text[:20], other], 10)], lambda ids: False, 100)
    assert answers == [reference.greedy(model, text[:20], 10), reference.greedy(model, other, 10)]


@pytest.mark.parametrize("make", SWITCHING)
def test_beyond_the_switch_a_text_is_refused(make):
    engine, (text, other) = PrefixEngine(make()), token_ids(2, 40, 10)
    message = (
        rf"a text has \d+ tokens, but .* takes {SWITCH} at most \(a longer text changes its rotary table\)"
    )
    for pack in (
        Pack((Tree(text), Tree(other))),
        Pack((Tree(text[:30], [text[30:36], other]),)),
        Pack((Tree(text[30:36]),), engine.prefill(text[:30])),
    ):
        with pytest.raises(UserError, match=message):
            engine.run(pack, [0])
    with pytest.raises(UserError, match=message):
        generate(engine, [Request([text[:30]], 5)], lambda ids: False, 100)


@torch.no_grad()
@pytest.mark.parametrize("kind", ANY_LENGTH)
def test_tables_without_a_switch_have_no_limit_of_their_own(kind):
    rotary = {"rope_type": kind, "rope_theta": 1e4, **ANY_LENGTH[kind]}
    model = drawn(LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=rotary)))
    engine, (text, other, branch) = PrefixEngine(model), token_ids(1, 40, 10, 6)
    pack = Pack((Tree(text[30:]), Tree(other, [branch])), engine.prefill(text[:30]))
    found = engine.run(pack, range(pack.size))
    reference.close(found[:10], reference.logits(model, text)[30:])
    reference.close(found[10:], reference.logits(model, [*text[:30], *other, *branch])[30:])
    assert engine.geometry.reach.tokens == 128
