"""Sizes of a decoder, from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anamnesis.core.errors import UserError, unknown

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ALIASES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocabulary": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "chosen": ("num_experts_per_tok",),
}
PLAIN_MLP = ("gpt2", "gpt_neox", "opt", "phi")  # two matrices in the feed-forward part; all others have three


@dataclass(frozen=True)
class Shape:
    """``intermediate``: width of the feed-forward part, or of one of the ``experts`` of a mixture, of which
    ``chosen`` have a say in a token and ``computed`` are computed for it; ``shared`` is the width of the part
    that always runs. In a mixture ``dense_layers`` of the layers have no experts, but one part of width
    ``dense``.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    experts: int = 0
    chosen: int = 0
    computed: int = 0
    shared: int = 0
    dense_layers: int = 0
    dense: int = 0
    matrices: int = 3
    tied: bool = False
    dtype: str = field(default="float32", compare=False)

    @property
    def attention(self) -> int:
        """Weights of one layer's four projections."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def active(self) -> int:
        """Weights that one token is multiplied with in all layers, without the output head."""
        return self._in_layers(self.computed)

    @property
    def head(self) -> int:
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights in matrices; norms and biases are left out."""
        return self._in_layers(self.experts) + self.head * (1 if self.tied else 2)

    @property
    def width(self) -> int:
        """Of the widest feed-forward part that one token goes through."""
        return max(self.dense, self.shared + self.intermediate * (self.computed if self.experts else 1))

    def _in_layers(self, experts: int) -> int:
        """Weights of all layers, of a mixture with so many of its experts."""
        mixtures = self.layers - self.dense_layers if self.experts else 0
        widths = mixtures * (self.shared + experts * self.intermediate)
        widths += (self.layers - mixtures) * (self.dense or self.intermediate)
        router = mixtures * self.hidden * self.experts
        return self.layers * self.attention + self.matrices * self.hidden * widths + router

    @property
    def bytes(self) -> int:
        return self.parameters * BYTES[self.dtype]


def shape_from(config: Mapping, dtype: str = "float32") -> Shape:
    """The shape in a model's ``config.json``. Raises UserError when a size is missing."""
    config = config.get("text_config") or config
    found = {name: _first(config, keys) for name, keys in ALIASES.items()}
    if not found["intermediate"] and found["hidden"]:
        found["intermediate"] = 4 * found["hidden"]
    missing = [ALIASES[name][0] for name in ("hidden", "layers", "heads", "vocabulary") if not found[name]]
    if missing:
        raise UserError(f"config.json of the model has no {', '.join(missing)}: its size cannot be estimated")
    return Shape(
        hidden=found["hidden"],
        layers=found["layers"],
        heads=found["heads"],
        kv_heads=config.get("num_key_value_heads") or found["heads"],
        head_dim=config.get("head_dim") or found["hidden"] // found["heads"],
        vocabulary=found["vocabulary"],
        **_mixture(config, found) if found["experts"] else {"intermediate": found["intermediate"]},
        matrices=2 if config.get("model_type") in PLAIN_MLP else 3,
        tied=bool(config.get("tie_word_embeddings", False)),
        dtype=dtype,
    )


def _mixture(config: Mapping, found: Mapping) -> dict[str, int]:
    """Experts and dense layers, in the words of the families of mixtures."""
    layers, wide, llama4 = found["layers"], found["intermediate"], config.get("model_type") == "llama4_text"
    expert = config.get("moe_intermediate_size") or wide
    shared = config.get("shared_expert_intermediate_size") or expert * (config.get("n_shared_experts") or 0)
    step = config.get("interleave_moe_layer_step") or config.get("decoder_sparse_step") or 1
    mixtures = config.get("moe_layers")
    if mixtures is None:
        dense = {*range(config.get("first_k_dense_replace") or 0), *(config.get("mlp_only_layers") or [])}
        mixtures = {*range(step - 1, layers, step)} - dense
    return {
        "intermediate": expert,
        "experts": found["experts"],
        "chosen": found["chosen"],
        # transformers' Llama 4 gives every token to every expert, zeros to those not chosen
        "computed": found["experts" if llama4 else "chosen"],
        "shared": wide if llama4 else shared,
        "dense_layers": layers - len(mixtures),
        "dense": config.get("intermediate_size_mlp") or wide,
    }


def shape_of(snapshot: Path, dtype: str = "float32") -> Shape:
    """The shape of a snapshot. Raises FileNotFoundError, naming ``snapshot``, when it is not there yet."""
    file = Path(snapshot) / "config.json"
    if not file.exists():
        raise FileNotFoundError(2, "the model is not prepared yet", str(snapshot))
    return shape_from(json.loads(file.read_text(encoding="utf-8")), dtype)


def known_shape(name: str, dtype: str) -> Shape:
    """The shape of a model by its usual name (``KNOWN``). Raises UserError for another name."""
    if name not in KNOWN:
        raise unknown("model", name, sorted(KNOWN))
    return Shape(**KNOWN[name], dtype=dtype)


KNOWN: Mapping[str, Mapping] = {
    "smollm2-135m": dict(hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, intermediate=1536,
                         vocabulary=49152, tied=True),
    "llama-2-7b": dict(hidden=4096, layers=32, heads=32, kv_heads=32, head_dim=128, intermediate=11008,
                       vocabulary=32000),
    "llama-3.1-8b": dict(hidden=4096, layers=32, heads=32, kv_heads=8, head_dim=128, intermediate=14336,
                         vocabulary=128256),
    "mistral-7b": dict(hidden=4096, layers=32, heads=32, kv_heads=8, head_dim=128, intermediate=14336,
                       vocabulary=32000),
    "llama-3.1-70b": dict(hidden=8192, layers=80, heads=64, kv_heads=8, head_dim=128, intermediate=28672,
                          vocabulary=128256),
    "llama-4-scout": dict(hidden=5120, layers=48, heads=40, kv_heads=8, head_dim=128, intermediate=8192,
                          vocabulary=202048, experts=16, chosen=1, computed=16, shared=8192),
    "llama-4-maverick": dict(hidden=5120, layers=48, heads=40, kv_heads=8, head_dim=128, intermediate=8192,
                             vocabulary=202048, experts=128, chosen=1, computed=128, shared=8192,
                             dense_layers=24, dense=16384),
}  # fmt: skip


def _first(config: Mapping, keys: tuple[str, ...]):
    return next((config[key] for key in keys if config.get(key)), None)
