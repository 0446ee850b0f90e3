"""Where a decoder keeps its attention heads: found by watching one forward pass, never by the model's
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from anamnesis.core.errors import UserError
from anamnesis.engine.attention import ForestLayout, layout
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.reach import Reach, find_reach
from anamnesis.engine.writing import Writing, find_writing

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from anamnesis.engine.attention import Call


@dataclass(frozen=True)
class HeadGeometry:
    """The decoder layers of a model and their heads.

    ``blocks[l]`` is the decoder layer, ``projections[l]`` the linear map that mixes the heads of layer l
    (``o_proj`` and its namesakes); its input is (…, n_heads · head_dim), one slice per head. ``writing``: how
    what it returns gets into the residual stream.
    ``fixed_length``: whether the model insists that as many tokens leave its layers as entered them.
    ``reach``: how long a text may be, where there is a limit; ``scaled``: attention modules that weigh
    queries by their place in the row, by 1 within that reach.
    """

    n_layers: int
    n_heads: int
    head_dim: int
    hidden_size: int
    blocks: tuple[nn.Module, ...]
    projections: tuple[nn.Module, ...]
    writing: Writing
    fixed_length: bool = False
    reach: Reach | None = None
    scaled: tuple[nn.Module, ...] = ()

    def output_weight(self, layer: int) -> torch.Tensor:
        """W_O of a layer as (n_heads, head_dim, hidden_size), float32, adapters included, bias excluded."""
        weight = projection_weight(self.projections[layer]).detach().float()
        # in one order in memory, whatever the weight's: products round by it
        return weight.reshape(self.n_heads, self.head_dim, self.hidden_size).contiguous()

    def written(self, layer: int, outputs: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """What each head of a layer adds to the residual stream, (n_heads, hidden_size) float32 on the CPU,
        of its ``outputs`` (n_heads, head_dim). ``scale``: see ``Writing.into_stream``.
        """
        attended = torch.einsum("hd,hdo->ho", outputs.float().cpu(), self.output_weight(layer).cpu())
        return self.writing.into_stream(layer, attended, scale)

    def check_head(self, layer: int, head: int) -> None:
        """Raise a UserError unless (layer, head) exists."""
        if not 0 <= layer < self.n_layers:
            raise UserError(
                f"layer {layer} does not exist: the model has {self.n_layers} layers (0-{self.n_layers - 1})"
            )
        if not 0 <= head < self.n_heads:
            raise UserError(
                f"head {head} of layer {layer} does not exist: the model has {self.n_heads} heads a layer "
                f"(0-{self.n_heads - 1})"
            )


def projection_weight(projection: Any) -> torch.Tensor:
    """(inputs, outputs) weight of a Linear, a transformers Conv1D, or a PEFT layer around either (with its
    increment). Where processes divide a weight among them (FSDP), all have to ask for it.
    """
    base = getattr(projection, "base_layer", projection)
    whole = base.weight.full_tensor() if hasattr(base.weight, "full_tensor") else base.weight
    weight = whole.T if isinstance(base, nn.Linear) else whole
    if base is not projection and not projection.disable_adapters and not projection.merged:
        for adapter in projection.active_adapters:
            delta = projection.get_delta_weight(adapter)
            weight = weight + (delta.T if isinstance(base, nn.Linear) else delta)
    return weight


PROBED = Tree([2])  # one token


def find_heads(model: PreTrainedModel) -> HeadGeometry:
    """Locate decoder layers and output projections by running one token and watching what is called.

    Raises UserError when a model does not use transformers' attention interface, when an attention layer is
    not followed by a linear output projection, when layers differ in their number of heads, or when tokens
    meet anywhere but in attention.
    """
    config, name = model.config.get_text_config(), type(model).__name__
    _require_causal(config, name)
    seen, alone = _watch(model)
    if not seen:
        raise UserError(
            f"{name} calls no attention through transformers' attention interface, which the prefix engine "
            "needs: use a model that does, such as Llama, Qwen, Gemma, Mistral, Phi, GPT-2 or GPT-NeoX"
        )
    blocks, projections = _require_one_shape(model, seen, alone)
    scaled = tuple(f.attention for f in seen if getattr(f.attention, "attn_temperature_tuning", False))
    return HeadGeometry(
        len(blocks),
        seen[0].n_heads,
        seen[0].head_dim,
        projection_weight(projections[0]).shape[1],
        blocks,
        projections,
        find_writing(blocks, projections, lambda: _forward(model, Tree([0]))),
        _fixed_length(model, blocks[-1]),
        find_reach(config, scaled),
        scaled,
    )


def _require_causal(config: PreTrainedConfig, name: str) -> None:
    """Attention to what comes later would make a prefix depend on its continuation."""
    if getattr(config, "use_bidirectional_attention", None):
        raise UserError(
            f"{name} has use_bidirectional_attention = {config.use_bidirectional_attention}, which the "
            "prefix engine does not cover: use a model with causal attention that is full, sliding or "
            "soft-capped"
        )


def _require_one_shape(
    model: PreTrainedModel, seen: Sequence[_Found], alone: torch.Tensor
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """(decoder layers, output projections) of the attention layers seen, which must all be of one form, in a
    pass that gave the logits ``alone``.
    """
    name = type(model).__name__
    place_of = {module: place for place, module in model.named_modules()}
    projections: list[nn.Module] = []
    for found in seen:
        if found.projection is None:
            raise UserError(
                f"no output projection found in {name} at '{place_of[found.attention]}': its attention "
                "output must go through a linear child of that module (o_proj, c_proj, dense, out_proj, "
                "...): use a model of that form"
            )
        projections.append(found.projection)
    shapes = sorted({(f.n_heads, f.head_dim) for f in seen})
    if len(shapes) != 1:
        raise UserError(
            f"{name} has {len(seen)} attention layers of (heads, head size) {shapes}: the prefix engine "
            "needs one shape in all layers: use a model of that form"
        )
    layers = [_decoder_layer(model, place_of[f.attention]) for f in seen]
    if len(layers[0][0]) != len(seen) or not _keeps_trees_apart(model, alone):
        raise UserError(
            f"{name} mixes tokens outside transformers' attention interface (convolutions, state-space "
            "layers, attention or positions of its own), so that texts packed into one row disturb each "
            "other: use a model whose layers all are attention layers"
        )
    return tuple(siblings[i] for siblings, i in layers), tuple(projections)


def _keeps_trees_apart(model: PreTrainedModel, alone: torch.Tensor) -> bool:
    """Whether a token's logits are the same behind another tree as ``alone`` in a row."""
    with layout(model, ForestLayout(Pack((Tree([1]), PROBED)), next(model.parameters()).device)):
        behind = _run(model, Tree([1]), PROBED).logits[0, -1].float()
    kinds = (next(model.parameters()).dtype, torch.float32)  # which models of float64 use here and there
    tolerance = max(torch.finfo(kind).eps for kind in kinds) ** 0.5
    return bool((alone - behind).abs().max() <= tolerance * alone.abs().max())


def _fixed_length(model: PreTrainedModel, last: nn.Module) -> bool:
    """Whether the model fails when its last layer returns two tokens for one."""

    def double(module: nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = torch.cat([hidden] * 2, 1)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = last.register_forward_hook(double)
    try:
        return _run(model, Tree([0])).logits.shape[:2] != (1, 2)
    except RuntimeError:
        return True
    finally:
        handle.remove()


def _forward(model: PreTrainedModel, *trees: Tree) -> Any:
    """One forward pass of a few tokens, without dropout whatever mode the model is in."""
    pack, device = Pack(trees), next(model.parameters()).device
    with evaluation_mode(model):
        return model(
            input_ids=pack.tokens[None].to(device),
            position_ids=pack.positions[None].to(device),
            use_cache=False,
        )


_run = torch.no_grad()(_forward)


@dataclass
class _Found:
    attention: nn.Module
    n_heads: int
    head_dim: int
    projection: nn.Module | None = None


class _Probe(ForestLayout):
    """Attention of one token that notes the shape of the heads."""

    def __init__(self, device: torch.device):
        super().__init__(Pack((PROBED,)), device)
        self.shapes: list[tuple[int, int]] = []

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call) -> torch.Tensor:
        self.shapes.append((query.shape[0], value.shape[-1]))
        return super().attend(query, key, value, call)


def _watch(model: PreTrainedModel) -> tuple[list[_Found], torch.Tensor]:
    """(attention layers, logits) of one forward pass of one token. The projection is the first linear child
    of the attention module called after it.
    """
    probe = _Probe(next(model.parameters()).device)
    found: list[_Found] = []

    def note(module: nn.Module, inputs: tuple) -> None:
        while len(found) < len(calls):
            found.append(_Found(calls[len(found)], *probe.shapes[len(found)]))
        if (
            not found
            or found[-1].projection is not None
            or not any(m is module for m in found[-1].attention.children())
        ):
            return
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        width = found[-1].n_heads * found[-1].head_dim
        if weight is not None and weight.dim() == 2 and inputs and inputs[0].shape[-1] == width:
            found[-1].projection = module

    with layout(model, probe) as calls:
        handle = nn.modules.module.register_module_forward_pre_hook(note)
        try:
            logits = _run(model, PROBED).logits[0, -1].float()
        finally:
            handle.remove()
    return found, logits


def _decoder_layer(model: nn.Module, attention_name: str) -> tuple[nn.ModuleList, int]:
    """The list of decoder layers, and the place in it of the one that contains the attention module."""
    parts = attention_name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        siblings = model.get_submodule(".".join(parts[: end - 1]))
        if isinstance(siblings, nn.ModuleList):
            return siblings, int(parts[end - 1])
    raise UserError(
        f"'{attention_name}' of {type(model).__name__} is not inside a list of decoder layers: use a model "
        "whose layers form a torch ModuleList"
    )
