"""Prompts as vectors, from a frozen model: what latent tasks are retrieved by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from anamnesis.core.errors import UserError, first_line
from anamnesis.core.hub_access import download, explain
from anamnesis.data.encoding import token_ids
from anamnesis.engine.pack import Pack, Tree, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.folders import PATTERNS, only_the_model, weight_files
from anamnesis.models.loading import read_weights, without_progress_bars
from anamnesis.models.tokenizers import without_dropout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Prompt = tuple[int, ...]
CHUNK = 4096  # tokens of one forward pass


class PromptEncoder:
    """The mean, over a prompt's tokens, of what one layer of a frozen model returns.

    ``source``: "self" for the language model as it was before all training (the weights in ``snapshot``, so
    that a prompt is encoded alike in every stage and in the evaluation); "path:<folder>" or
    "hf:<id>@<revision>" for another model in Hugging Face format, which gets the prompt's text. ``layer``
    counts from 0, None is the middle one. The model is read when it is first needed, and ``release`` frees
    its memory. Raises UserError for a source that cannot be read and a layer that does not exist.
    """

    def __init__(
        self,
        source: str,
        layer: int | None,
        snapshot: Path,
        tokenizer: PreTrainedTokenizerBase,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.source, self.layer, self.snapshot, self.tokenizer = source, layer, Path(snapshot), tokenizer
        self.dtype, self.device = dtype, device

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(n_prompts, width) float32 on the CPU. There is no padding, and what prompts of the language model
        itself begin with runs once.
        """
        return self._by_beginning(prompts) if self.source == "self" else self._by_length(prompts)

    def release(self) -> None:
        """Free the model; the next prompt reads it again."""
        self.__dict__.pop("_model", None)

    def _by_beginning(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        engine = PrefixEngine(self._model[0])
        shared = engine.shared(prompts)
        encoded: dict[int, torch.Tensor] = {}
        for batch in pack_by_size([len(prompt) - shared for prompt in prompts], CHUNK):
            trees = tuple(Tree(prompts[i][shared:], prefix=tuple(prompts[i][:shared])) for i in batch)
            pack = Pack(trees)
            hidden = self._reached(partial(engine.run, pack, [0]))[0].float()
            before = hidden[:shared].sum(0)
            sums = [
                before + hidden[start : start + tree.size].sum(0)
                for start, tree in zip(pack.starts, trees, strict=True)
            ]
            for i, total in zip(batch, torch.stack(sums).cpu(), strict=True):
                encoded[i] = total / len(prompts[i])
        return torch.stack([encoded[i] for i in range(len(prompts))])

    def _by_length(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        model = self._model[0]
        texts = [self._read(prompt) for prompt in prompts]
        encoded: dict[int, torch.Tensor] = {}
        for length in sorted({len(text) for text in texts}):
            alike = [i for i, text in enumerate(texts) if len(text) == length]
            count = max(1, CHUNK // length)
            for start in range(0, len(alike), count):
                rows = alike[start : start + count]
                tokens = torch.tensor([texts[i] for i in rows], device=self.device)
                hidden = self._reached(partial(model, input_ids=tokens))
                for i, vector in zip(rows, hidden.float().mean(1).cpu(), strict=True):
                    encoded[i] = vector
        return torch.stack([encoded[i] for i in range(len(texts))])

    def _reached(self, run: Callable[[], object]) -> torch.Tensor:
        """What the layer returns when the model runs, (n, length, width); the layers after it are spared."""
        seen: list[torch.Tensor] = []

        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        handle = self._layer(self._model[0]).register_forward_hook(hook)
        try:
            run()
        except _Reached:
            pass
        finally:
            handle.remove()
        return seen[0]

    def _layer(self, model: PreTrainedModel) -> nn.Module:
        count = model.config.get_text_config().num_hidden_layers
        layer = count // 2 if self.layer is None else self.layer
        if layer >= count:
            raise UserError(
                f"methods.jfa.encoder_layer is {layer}, but the encoder '{self.source}' has {count} layers "
                f"(0-{count - 1}): choose one of them, or null for the middle one"
            )
        return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count)[layer]

    def _read(self, prompt: Prompt) -> list[int]:
        """The encoder's own tokens of a prompt, as many as it takes."""
        reader = self._model[1]
        if reader is None:
            return list(prompt)
        text = self.tokenizer.decode(list(prompt), clean_up_tokenization_spaces=False)
        most = getattr(self._model[0].config, "max_position_embeddings", None) or reader.model_max_length
        ids = token_ids(reader, [text])[0]  # type: ignore[list-item]  # a list is for several sequences
        return ids[: min(most, reader.model_max_length)]

    @cached_property
    def _model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
        """The model, and its tokenizer if that is not the language model's."""
        kind, _, name = self.source.partition(":")
        if self.source != "self" and (kind not in {"path", "hf"} or not name):
            raise UserError(
                f"methods.jfa.encoder is '{self.source}': allowed are self, path:<folder>, hf:<id>@<revision>"
            )
        with torch.random.fork_rng(devices=[]):  # reading may draw random numbers, which training counts on
            if self.source == "self":
                model, reader = read_weights(self.snapshot, dtype=self.dtype, use_safetensors=True), None
            else:
                model, reader = _other(self.source, Path(name) if kind == "path" else _fetched(name))
        return model.to(self.device).eval(), reader


class _Reached(Exception):
    """The layer asked for has answered."""


def _other(source: str, folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModel, AutoTokenizer

    if not (folder / "config.json").exists():
        raise UserError(
            f"methods.jfa.encoder is '{source}', where there is no config.json: give a folder in Hugging "
            "Face format, or self"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with without_progress_bars(), TemporaryDirectory() as scratch:
            alone = only_the_model(folder, weight_files(folder), Path(scratch, "model"))
            model = AutoModel.from_pretrained(alone, use_safetensors=True, **options)
            return model, without_dropout(AutoTokenizer.from_pretrained(alone, **options))
    except Exception as error:  # a cut file fails in safetensors, json or transformers: one remedy for all
        raise UserError(
            f"methods.jfa.encoder '{source}' cannot be read ({first_line(error)}): give another folder, or "
            "self"
        ) from error


def _fetched(name: str) -> Path:
    """The folder of a pinned revision on this machine, fetched from the hub the first time."""
    repository, at, revision = name.partition("@")
    if not at or not revision:
        raise UserError(
            f"methods.jfa.encoder is 'hf:{name}': name a revision, as in hf:{repository}@<commit>"
        )
    with suppress(Exception):  # not here yet: the configuration names it, so it may be fetched
        return download("model", repository, revision, PATTERNS, cached=True)
    try:
        return download("model", repository, revision, PATTERNS)
    except Exception as error:  # the hub library raises many kinds
        reason = explain(f"hf:{name}", error)
        raise UserError(f"methods.jfa.encoder: {reason}; or use path:<folder>") from error
