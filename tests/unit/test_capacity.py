"""How many GPUs a job fills, against small cases counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamnesis.config.load import load_config
from anamnesis.estimate import capacity
from anamnesis.estimate.capacity import (
    devices_needed,
    inference_devices,
    layer_bytes,
    training_bytes,
    training_devices,
)
from anamnesis.models.shape import KNOWN, Shape, known_shape

ROOT = Path(__file__).parents[2]
SIZES = {"hidden": 10, "heads": 2, "kv_heads": 1, "head_dim": 5, "vocabulary": 40, "dtype": "bfloat16"}
PLAIN = Shape(layers=6, intermediate=20, **SIZES)
MIXED = Shape(
    layers=4, intermediate=20, experts=8, chosen=1, computed=8, shared=4, dense_layers=2, dense=30, **SIZES
)
# by hand: attention 2 * 10 * 5 * 3 = 300 weights, three matrices of 10 x 20, two bytes each
LAYER, HEAD = 2 * (300 + 600), 2 * 400


@pytest.fixture
def bare(monkeypatch):
    """Nothing but weights, and 10 bytes for each token in training."""
    monkeypatch.setattr(capacity, "PROCESS_MIB", 0)
    monkeypatch.setattr(capacity, "MARGIN", 1.0)
    monkeypatch.setattr(capacity, "activations", lambda shape, tokens, training: 10 * tokens * training)


def test_layers_add_up_to_the_model():
    assert layer_bytes(PLAIN) == (LAYER, 0)
    dense, mixture = layer_bytes(MIXED)
    assert dense == 2 * (300 + 3 * 10 * 30)
    assert mixture == 2 * (300 + 3 * 10 * (4 + 8 * 20) + 10 * 8)
    for shape in (PLAIN, MIXED, *(known_shape(name, "bfloat16") for name in KNOWN)):
        dense, mixture = layer_bytes(shape)
        few = shape.dense_layers if shape.experts else shape.layers
        ends = shape.head * 2 * (1 if shape.tied else 2)
        assert few * dense + (shape.layers - few) * mixture + ends == shape.bytes


def test_layers_lie_whole_on_one_device_after_another(bare):
    assert inference_devices(PLAIN, PLAIN.bytes, 0) == 1
    assert inference_devices(PLAIN, PLAIN.bytes - 1, 0) == 2
    # embeddings and two layers, two and two layers, head: half a layer of room is of no use
    assert inference_devices(PLAIN, 2.5 * LAYER, 0) == 3
    assert inference_devices(PLAIN, HEAD + LAYER, 0) == 6
    assert inference_devices(PLAIN, LAYER - 1, 0) is None
    assert inference_devices(MIXED, layer_bytes(MIXED)[1] - 1, 0) is None


def test_training_holds_a_share_and_the_layer_that_runs(bare):
    """Two GPUs: embeddings and head, three of six layers, and one layer twice while it is gathered."""
    assert training_bytes(PLAIN, 1, 4, 7) == PLAIN.bytes + 4 * 7 * 10
    assert training_bytes(PLAIN, 2, 4, 7) == 2 * HEAD + 3 * LAYER + 2 * LAYER + 2 * 7 * 10
    assert training_bytes(PLAIN, 6, 4, 7) == 2 * HEAD + LAYER + 2 * LAYER + 7 * 10
    assert training_devices(PLAIN, PLAIN.bytes + 280, 4, 7) == 1
    assert training_devices(PLAIN, training_bytes(PLAIN, 2, 4, 7), 4, 7) == 2
    # however many share the rest, the widest layer and the ends have to be there
    least = 2 * HEAD + 2 * layer_bytes(MIXED)[1]
    assert training_devices(MIXED, least, 1, 0) is None


def test_no_device_is_asked_to_hold_more_than_it_has():
    config = load_config(ROOT / "config.yaml")
    for name in KNOWN:
        shape = known_shape(name, "bfloat16")
        for training in (False, True):
            few, many = (devices_needed(config, shape, memory, training) for memory in (141e9, 80e9))
            assert few is None or few * 141e9 > shape.bytes
            assert many is None or (many * 80e9 > shape.bytes and many >= few)


def test_experts_that_do_not_fit_are_not_pretended_to():
    config = load_config(ROOT / "config.yaml")
    maverick = known_shape("llama-4-maverick", "bfloat16")
    assert devices_needed(config, maverick, 80e9) > capacity.IN_ONE_COMPUTER
    assert devices_needed(config, maverick, 80e9, training=True) is None
    large = known_shape("llama-3.1-70b", "bfloat16")
    assert devices_needed(config, large, 80e9) == 2
    assert 2 < devices_needed(config, large, 80e9, training=True) <= capacity.IN_ONE_COMPUTER
