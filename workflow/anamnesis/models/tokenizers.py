"""Reading the tokenizer that comes with a model, so that a missing one is not taken for one."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

from anamnesis.core.errors import UserError

logger = logging.getLogger(__name__)

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def read_tokenizer(folder: Path, model_alone: Path, gguf: str | None):
    """The tokenizer of the model in ``folder``, of which ``model_alone`` is what :func:`only_the_model` made.

    Raises UserError where there is none, for which transformers may make one without words, and for one that
    this installation cannot read.
    """
    from transformers import AutoTokenizer

    if not gguf:
        _require_sentencepiece(folder)
    options = {"gguf_file": gguf} if gguf else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_alone, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception:
        if gguf or any((folder / name).exists() for name in FILES):
            raise
        tokenizer = None
    if tokenizer is None or not set(_read(tokenizer)) - {tokenizer.unk_token_id}:
        raise UserError(
            f"{folder} has no tokenizer, or one without words: copy tokenizer.json and tokenizer_config.json "
            "there from where the model is from"
        )
    return without_dropout(tokenizer)


def without_dropout(tokenizer):
    """The tokenizer, which then reads a text the same way each time: one of BPE may leave out some of its
    merges at random, which is meant for the training of a model.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if share := getattr(getattr(backend, "model", None), "dropout", None):
        logger.warning("the tokenizer's dropout (%g) is left out: a text has one sequence of tokens", share)
        backend.model.dropout = None
    return tokenizer


def _read(tokenizer) -> list[int]:
    return tokenizer("The quick brown fox", add_special_tokens=False)["input_ids"]


def _require_sentencepiece(folder: Path) -> None:
    alone = (folder / "tokenizer.model").exists() and not (folder / "tokenizer.json").exists()
    if alone and find_spec("sentencepiece") is None:
        raise UserError(
            f"{folder} has its tokenizer in tokenizer.model alone, and reading that takes the package "
            "sentencepiece: install sentencepiece and protobuf, or add the tokenizer.json that other copies "
            "of the model have"
        )
