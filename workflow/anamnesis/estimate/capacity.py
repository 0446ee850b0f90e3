"""How many GPUs one job on a model fills.

Two formulas, as the two kinds of jobs hold a model differently. All but training lays it over the GPUs piece
by piece: embeddings, whole layers, output head. Training divides the weights of every layer among the
processes (FSDP); embeddings and output head are whole on each, and a layer that runs is gathered there first.
Adapters and their optimiser, some hundredths of the weights, are left out.
"""

from __future__ import annotations

from math import ceil

from anamnesis.config.models import Config
from anamnesis.estimate.demands import MARGIN, PROCESS_MIB, activations
from anamnesis.models.shape import BYTES, Shape

IN_ONE_COMPUTER = 8
"""GPUs of the usual computer. The processes of a job are in one, and so are the layers of its model."""
MOST = 64  # of model.gpus
GATHERED = 2  # copies of the layer that runs: what the others sent, and the weights that are made of it


def devices_needed(config: Config, shape: Shape, memory: float, training: bool = False) -> int | None:
    """GPUs with ``memory`` bytes that a job of ``config`` fills; None where 64 are not enough."""
    if not training:
        return inference_devices(shape, memory, config.evaluation.batch_tokens)
    return training_devices(shape, memory, config.training.batch_size, config.training.max_input_tokens)


def inference_devices(shape: Shape, memory: float, batch_tokens: int) -> int | None:
    """Pieces are laid on a GPU in their order until the next one has no room there. Each GPU has room for the
    activations besides, as each computes its layers.
    """
    room = memory - PROCESS_MIB * 2**20 - MARGIN * activations(shape, batch_tokens, False)
    dense, mixture = layer_bytes(shape)
    head = shape.head * BYTES[shape.dtype]
    layers = [dense] * _dense_layers(shape) + [mixture] * (shape.layers - _dense_layers(shape))
    devices, used = 1, 0.0
    for piece in [head, *layers, *([] if shape.tied else [head])]:
        devices, used = (devices, used + piece) if used + piece <= room else (devices + 1, piece)
        if piece > room:
            return None
    return devices if devices <= MOST else None


def training_devices(shape: Shape, memory: float, batch_size: int, max_input_tokens: int) -> int | None:
    """As many as there are processes, each on its part of a batch of the longest inputs."""
    fitting = (
        n for n in range(1, MOST + 1) if training_bytes(shape, n, batch_size, max_input_tokens) <= memory
    )
    return next(fitting, None)


def training_bytes(shape: Shape, devices: int, batch_size: int, max_input_tokens: int) -> float:
    """What each of so many GPUs holds: its share of the layers, embeddings and output head, the layer that is
    gathered, and the activations of its part of the batch. A GPU alone gathers nothing.
    """
    dense, mixture = layer_bytes(shape)
    whole = shape.head * BYTES[shape.dtype] * (1 if shape.tied else 2)
    layers = shape.bytes - whole
    gathered = GATHERED * max(dense, mixture) if devices > 1 else 0
    part = ceil(batch_size / devices) * max_input_tokens
    kept = PROCESS_MIB * 2**20 + MARGIN * activations(shape, part, True)
    return kept + whole + layers / devices + gathered


def layer_bytes(shape: Shape) -> tuple[int, int]:
    """Of a layer with one feed-forward part, and of one with experts; 0 for a kind that the model has not."""
    size, matrix = BYTES[shape.dtype], shape.matrices * shape.hidden
    dense = shape.attention + matrix * (shape.dense or shape.intermediate)
    experts = matrix * (shape.shared + shape.experts * shape.intermediate) + shape.hidden * shape.experts
    mixture = shape.attention + experts
    return size * dense * bool(_dense_layers(shape)), size * mixture * bool(shape.experts)


def _dense_layers(shape: Shape) -> int:
    return shape.dense_layers if shape.experts else shape.layers
