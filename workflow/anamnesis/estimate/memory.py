"""Memory of a job, and how many GPUs it fills.

What tensors hold, as measured on a 135M-parameter model in float32. Adapters and their optimiser, some
hundredths of the weights, are left out.
"""

from __future__ import annotations

from math import ceil

from anamnesis.config.models import Config
from anamnesis.core.errors import UserError
from anamnesis.estimate.shape import BYTES, Shape
from anamnesis.models.folders import GGUF, local_weights

PROCESS_MIB = 700  # an interpreter with torch and transformers
MARGIN = 1.2
GPUS_PER_MACHINE = 8
"""Of the usual machine. The processes of a job run on one, and so do the layers of its model."""
MOST_GPUS = 64  # of model.gpus
GATHERED = 2  # copies of the layer that runs: what the others sent, and the weights that are made of it
PACKED = 8  # a weight of float32 for one of four bits in a GGUF file
FETCHED_MIB = {"pypi": 4000, "hf": 20000}  # of a model that is fetched first: 7 billion weights in bfloat16


def activations(shape: Shape, tokens: int, training: bool) -> float:
    """Bytes besides the weights: float32 logits of every token (upper bound), the KV cache, and activations
    of two layers; in training, saved activations of all layers.
    """
    layer = (6 * shape.hidden + 3 * shape.width) * BYTES[shape.dtype]
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * BYTES[shape.dtype]
    return tokens * (4 * shape.vocabulary + (shape.layers * layer if training else 2 * layer + cache))


def memory_mib(shape: Shape, tokens: int, training: bool = False, on_gpu: bool = False) -> int:
    """Resident memory of a job on this model whose batches have ``tokens`` tokens, in MiB. With a GPU the
    activations are there, and only the weights pass through the machine's memory.
    """
    besides = 0.0 if on_gpu else activations(shape, tokens, training)
    return int(PROCESS_MIB + MARGIN * (shape.bytes + besides) / 2**20)


def preparation_mib(source: str) -> int:
    """Resident memory of the job that prepares ``model.source``, in MiB: the weights as they are read, and a
    margin that has room for what is computed on a few tokens.
    """
    kind, _, name = source.partition(":")
    try:
        files = local_weights(name) if kind == "path" else []
    except UserError:  # the job says so
        files = []
    if not files:
        return FETCHED_MIB.get(kind, 0)
    size = sum(file.stat().st_size * (PACKED if file.suffix.lower() == GGUF else 1) for file in files)
    return int(PROCESS_MIB + MARGIN * size / 2**20)


def memory_of_processes(one: int, processes: int, sharded: bool) -> int:
    """Resident memory, in MiB, of processes that each take ``one``. A model that is sharded among their GPUs
    is in the machine's memory once.
    """
    return one + (processes - 1) * (PROCESS_MIB if sharded else one)


def devices_needed(config: Config, shape: Shape, memory: float, training: bool = False) -> int | None:
    """GPUs with ``memory`` bytes that a job of ``config`` fills; None where 64 are not enough."""
    if not training:
        return inference_devices(shape, memory, config.evaluation.batch_tokens)
    return training_devices(shape, memory, config.training.batch_size, config.training.max_input_tokens)


def inference_devices(shape: Shape, memory: float, batch_tokens: int) -> int | None:
    """Embeddings, whole layers and output head fill one GPU after another, in order. Each GPU has room for
    activations too, as each computes its layers.
    """
    room = memory - PROCESS_MIB * 2**20 - MARGIN * activations(shape, batch_tokens, False)
    head = 0 if shape.tied else shape.head
    devices, used = 1, 0.0
    for weights in (shape.outside - head, *shape.layer_weights, head):
        piece = weights * BYTES[shape.dtype]
        if piece > room:
            return None
        devices, used = (devices, used + piece) if used + piece <= room else (devices + 1, piece)
    return devices if devices <= MOST_GPUS else None


def training_devices(shape: Shape, memory: float, batch_size: int, max_input_tokens: int) -> int | None:
    """As many as there are processes, each on its part of a batch of the longest inputs."""
    needed = (training_bytes(shape, n, batch_size, max_input_tokens) for n in range(1, MOST_GPUS + 1))
    return next((n for n, size in enumerate(needed, 1) if size <= memory), None)


def training_bytes(shape: Shape, devices: int, batch_size: int, max_input_tokens: int) -> float:
    """Bytes on each GPU: its share of the layers (FSDP), all of embeddings and output head, the layer that is
    gathered, and the activations of its part of the batch. A GPU alone gathers nothing.
    """
    gathered = GATHERED * max(shape.layer_weights) if devices > 1 else 0
    weights = shape.outside + sum(shape.layer_weights) / devices + gathered
    part = ceil(batch_size / devices) * max_input_tokens
    return PROCESS_MIB * 2**20 + MARGIN * activations(shape, part, True) + weights * BYTES[shape.dtype]
