"""Digests of a model and of a tokenizer in memory, by which a study knows them again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from anamnesis.core.artifacts import digest_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 4096  # values of each weight that its model's digest is made from


def model_digest(model: torch.nn.Module) -> str:
    """SHA-256 of the names, shapes and types of all weights, adapters included, and of ``SAMPLE`` evenly
    spaced values of each: training changes these, and reading 7B weights whole would take minutes.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        if weight.is_meta:  # on disk, where accelerate puts what fits nowhere else
            continue
        values = weight.detach().reshape(-1)
        digest.update(values[:: -(-len(values) // SAMPLE) or 1].cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary, the special tokens and the chat template."""
    return digest_json([tokenizer.get_vocab(), tokenizer.special_tokens_map, tokenizer.chat_template])
