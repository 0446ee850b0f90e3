"""A vector added to the residual stream in every call of a transformers model, ``generate`` included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import torch
from torch import nn

from anamnesis.core.errors import UserError
from anamnesis.engine.attention import NAME as ENGINE
from anamnesis.study.inputs import real_number, whole_numbers

Positions = Literal["all", "last_prompt_token", "generated"] | Sequence[int]


@contextmanager
def steered(
    model: nn.Module,
    vector: torch.Tensor,
    layers: int | Sequence[int],
    scale: float = 1.0,
    positions: Positions = "all",
) -> Iterator[None]:
    """Inside, every ``model(**inputs)`` and ``model.generate(**inputs)`` adds ``scale * vector`` to the
    residual stream after each of ``layers``. Afterwards, errors included, the model is as it was.

    ``model``: a decoder of transformers, with PEFT adapters or without. ``vector``: (hidden_size,), or
    (len(layers), hidden_size) for one of its own at each layer. ``layers`` count from 0. ``positions``:
    "all", "last_prompt_token", "generated", or places in the prompt such as ``[0, -1]``, where padding does
    not count. The prompt is what ``generate`` is given, or what a call without a filled cache is given. The
    last prompt token predicts the first new one. Contexts may be nested; what they add is summed.

    Raises UserError for layers, positions or a vector that do not fit.
    """
    decoder, blocks = decoder_layers(model)
    chosen = whole_numbers("layers", layers)
    if not chosen:
        raise UserError("layers is empty: name one layer or several, counted from 0")
    for layer in chosen:
        if not 0 <= layer < len(blocks):
            raise UserError(f"layers has {layer}, but the model has {len(blocks)} (0-{len(blocks) - 1})")
    vectors = real_number("scale", scale) * _one_for_each(model, torch.as_tensor(vector), chosen)
    wanted = _checked(model, positions)
    places = None if wanted == "all" else _Places(wanted)
    with ExitStack() as stack:
        if places is not None:
            stack.enter_context(_noting_prompts(_base(model)))
            handle = decoder.register_forward_pre_hook(places.begin, with_kwargs=True)
            stack.callback(handle.remove)
        for layer, row in zip(chosen, vectors, strict=True):
            stack.callback(blocks[layer].register_forward_hook(_adding(row, places)).remove)
        yield


def decoder_layers(model: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    """(the module that runs the decoder layers, these layers). Raises UserError for a model without them."""
    base = _base(model)
    if hasattr(base, "get_decoder"):
        root, count = base.get_decoder(), base.config.get_text_config().num_hidden_layers
        for name, module in root.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return root.get_submodule(name.rpartition(".")[0]), module
    raise UserError(f"{type(base).__name__} has no list of decoder layers: give a decoder of transformers")


def _base(model: Any) -> Any:
    """The model of transformers inside one of PEFT: its calls and ``generate`` end there."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _one_for_each(model: nn.Module, vector: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
    """The vectors (len(layers), hidden_size)."""
    size = _base(model).config.get_text_config().hidden_size
    if tuple(vector.shape) not in ((size,), (len(layers), size)):
        raise UserError(
            f"the vector has the shape {tuple(vector.shape)}: the model takes ({size},) for all layers, or "
            f"({len(layers)}, {size}) for one at each of the {len(layers)} layers"
        )
    return vector.detach().expand(len(layers), size)


def _checked(model: nn.Module, positions: Positions) -> Literal["all", "generated"] | list[int]:
    found: Literal["all", "generated"] | list[int]
    if isinstance(positions, str) and (positions == "all" or positions == "generated"):
        found = positions
    elif isinstance(positions, str) and positions == "last_prompt_token":
        found = [-1]
    else:
        meant = "'all', 'last_prompt_token', 'generated', or places in the prompt such as [0, -1]"
        found = whole_numbers("positions", positions, meant)
        if not found:
            raise UserError(f"positions is empty: give {meant}")
    prompting = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    if prompting and found != "all":
        raise UserError(
            "positions must be 'all' with an adapter of virtual tokens (prompt tuning), which move all others"
        )
    return found


# ---------------------------------------------------------------- which tokens


@dataclass(frozen=True)
class _Prompt:
    """What ``generate`` was given: tokens in a row, padding included, and the attention mask (rows, length)
    if there was one.
    """

    length: int
    mask: torch.Tensor | None


_prompt: ContextVar[_Prompt | None] = ContextVar("prompt", default=None)


@contextmanager
def _noting_prompts(base: Any) -> Iterator[None]:
    """``base.generate`` tells the hooks below how long its prompts are: from the passes alone nobody could
    know it, as without a cache each pass holds prompt and new tokens alike.
    """
    before, generate = base.__dict__.get("generate"), base.generate

    @wraps(generate)
    def noted(*args: Any, **options: Any) -> Any:
        given = [options.get(name) for name in ("inputs_embeds", "input_ids", "inputs")] + list(args[:1])
        prompt = next((x for x in given if x is not None), None)
        length = 1 if prompt is None else prompt.shape[1]  # without a prompt it begins with one token
        token = _prompt.set(_Prompt(length, options.get("attention_mask")))
        try:
            return generate(*args, **options)
        finally:
            _prompt.reset(token)

    base.generate = noted
    try:
        yield
    finally:
        if before is None:
            del base.generate
        else:
            base.generate = before


class _Places:
    """The tokens of the pass at work that the vector is added to: ``mask`` (rows, tokens)."""

    def __init__(self, wanted: Literal["generated"] | list[int]):
        self.wanted = wanted
        self.mask = torch.empty(0)

    def begin(self, decoder: Any, args: tuple, options: dict) -> None:
        """Before the layers run: which of the tokens they are given are meant."""
        if decoder.config._attn_implementation == ENGINE:
            raise UserError(
                "the engine packs many texts into a row: inside `steered` it needs positions='all'; call the "
                "model itself, or its generate"
            )
        given = {**dict(zip(inspect.signature(decoder.forward).parameters, args, strict=False)), **options}
        tokens = given.get("input_ids")
        tokens = given["inputs_embeds"] if tokens is None else tokens
        rows, count = tokens.shape[:2]
        cache, prompt = given.get("past_key_values"), _prompt.get()
        past = int(cache.get_seq_length()) if cache is not None else 0
        length = prompt.length if prompt else past or count
        columns = torch.arange(past, past + count, device=tokens.device)
        if self.wanted == "generated":
            self.mask = (columns >= length).expand(rows, count)
            return
        inside = columns < length
        self.mask = torch.zeros(rows, count, dtype=torch.bool, device=tokens.device)
        if inside.any():
            real = _real(given.get("attention_mask"), prompt, rows, length).to(tokens.device)
            self.mask[:, inside] = _named(self.wanted, real)[:, columns[inside]]


def _named(places: Sequence[int], real: torch.Tensor) -> torch.Tensor:
    """Which of the prompts' tokens (rows, length) stand at ``places``. ``real``: which are no padding."""
    order, counts = real.cumsum(1) - 1, real.sum(1, keepdim=True)
    found, shortest = torch.zeros_like(real), int(counts.min())
    for place in places:
        if not -shortest <= place < shortest:
            raise UserError(f"positions has {place}, but a prompt has {shortest} tokens")
        found |= real & (order == (place if place >= 0 else counts + place))
    return found


def _real(mask: object, prompt: _Prompt | None, rows: int, length: int) -> torch.Tensor:
    """(rows, length): which tokens of the prompts are no padding. ``mask``: the attention mask of the pass,
    which ``generate`` gives in other forms for a cache of fixed size, so that its own goes first.
    """
    if prompt is not None and prompt.mask is not None:
        mask = prompt.mask
    if not (isinstance(mask, torch.Tensor) and mask.dim() == 2 and mask.shape[1] >= length):
        return torch.ones(rows, length, dtype=torch.bool)
    return mask[:, :length].bool().repeat_interleave(rows // len(mask), 0)  # beams of a prompt follow it


def _adding(vector: torch.Tensor, places: _Places | None) -> Callable:
    """A hook that adds the vector to a layer's output (rows, tokens, hidden_size), at all or some tokens."""

    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        delta = vector.to(hidden)
        if places is not None:
            delta = places.mask.to(hidden.device)[..., None] * delta
        return (hidden + delta, *output[1:]) if isinstance(output, tuple) else hidden + delta

    return hook
