"""How many GPUs a job fills, against small cases counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamnesis.config.load import load_config
from anamnesis.estimate import memory
from anamnesis.estimate.memory import (
    devices_needed,
    inference_devices,
    training_bytes,
    training_devices,
)
from anamnesis.estimate.shape import Shape, known_models, known_shape

ROOT = Path(__file__).parents[2]
SIZES = {"hidden": 10, "heads": 2, "kv_heads": 1, "head_dim": 5, "intermediate": 20, "vocabulary": 40}
# by hand: attention 2 * 10 * 5 * 3 = 300 weights, three matrices of 10 x 20
PLAIN = Shape(layer_weights=(900,) * 6, layer_active=(900,) * 6, outside=800, dtype="bfloat16", **SIZES)
# in every second layer 8 experts, a shared part of width 4 and a router; the others have width 30
LAYERS = 2 * (300 + 3 * 10 * 30, 300 + 3 * 10 * (4 + 8 * 20) + 10 * 8)
MIXED = Shape(layer_weights=LAYERS, layer_active=LAYERS, outside=800, dtype="bfloat16", **SIZES)
LAYER, MIXTURE, HEAD = 2 * 900, 2 * max(LAYERS), 2 * 400  # two bytes for each weight


@pytest.fixture
def bare(monkeypatch):
    """Nothing but weights, and 10 bytes for each token in training."""
    monkeypatch.setattr(memory, "PROCESS_MIB", 0)
    monkeypatch.setattr(memory, "MARGIN", 1.0)
    monkeypatch.setattr(memory, "activations", lambda shape, tokens, training: 10 * tokens * training)


def test_layers_add_up_to_the_model():
    dense = known_shape("llama-2-7b", "bfloat16")
    assert set(dense.layer_weights) == {4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096}  # and two norms
    assert dense.outside == 2 * dense.head + 4096
    mixed = known_shape("llama-4-maverick", "bfloat16")
    attention = 2 * 5120 * 128 * (40 + 8) + 2 * 5120
    few = attention + 3 * 5120 * 16384
    many = attention + 3 * 5120 * (8192 + 128 * 8192) + 5120 * 128
    assert mixed.layer_weights == 24 * (few, many)
    for shape in (PLAIN, MIXED, *(known_shape(name, "bfloat16") for name in known_models())):
        norm = shape.outside % shape.head
        assert shape.outside - norm == shape.head * (1 if shape.tied else 2)
        assert 2 * (sum(shape.layer_weights) + shape.outside) == shape.bytes


def test_layers_lie_whole_on_one_device_after_another(bare):
    assert inference_devices(PLAIN, PLAIN.bytes, 0) == 1
    assert inference_devices(PLAIN, PLAIN.bytes - 1, 0) == 2
    # embeddings and two layers, two and two layers, head: half a layer of room is of no use
    assert inference_devices(PLAIN, 2.5 * LAYER, 0) == 3
    assert inference_devices(PLAIN, HEAD + LAYER, 0) == 6
    assert inference_devices(PLAIN, LAYER - 1, 0) is None
    assert inference_devices(MIXED, MIXTURE - 1, 0) is None


def test_training_holds_a_share_and_the_layer_that_runs(bare):
    """Two GPUs: embeddings and head, three of six layers, and one layer twice while it is gathered."""
    assert training_bytes(PLAIN, 1, 4, 7) == PLAIN.bytes + 4 * 7 * 10
    assert training_bytes(PLAIN, 2, 4, 7) == 2 * HEAD + 3 * LAYER + 2 * LAYER + 2 * 7 * 10
    assert training_bytes(PLAIN, 6, 4, 7) == 2 * HEAD + LAYER + 2 * LAYER + 7 * 10
    assert training_devices(PLAIN, PLAIN.bytes + 280, 4, 7) == 1
    assert training_devices(PLAIN, training_bytes(PLAIN, 2, 4, 7), 4, 7) == 2
    # however many share the rest, the widest layer and the ends have to be there
    least = 2 * HEAD + 2 * MIXTURE
    assert training_devices(MIXED, least, 1, 0) is None


def test_no_device_is_asked_to_hold_more_than_it_has():
    config = load_config(ROOT / "config.yaml")
    for name in known_models():
        shape = known_shape(name, "bfloat16")
        for training in (False, True):
            few, many = (devices_needed(config, shape, memory, training) for memory in (141e9, 80e9))
            assert few is None or few * 141e9 > shape.bytes
            assert many is None or (many * 80e9 > shape.bytes and many >= few)


def test_experts_that_do_not_fit_are_not_pretended_to():
    config = load_config(ROOT / "config.yaml")
    maverick = known_shape("llama-4-maverick", "bfloat16")
    assert devices_needed(config, maverick, 80e9) > memory.GPUS_PER_MACHINE
    assert devices_needed(config, maverick, 80e9, training=True) is None
    large = known_shape("llama-3.1-70b", "bfloat16")
    assert devices_needed(config, large, 80e9) == 2
    assert 2 < devices_needed(config, large, 80e9, training=True) <= memory.GPUS_PER_MACHINE
