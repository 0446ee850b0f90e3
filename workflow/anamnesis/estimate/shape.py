"""The size of a decoder, from the names and sizes of its weights and a few numbers of its configuration.

The weights are those in the files of a snapshot, whose headers are read without torch, or those of an empty
model on torch's meta device. So no architecture has a formula of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from math import prod
from pathlib import Path

import yaml

from anamnesis.core.errors import UserError, unknown
from anamnesis.models.loading import weight_sizes

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MODELS = Path(__file__).parent / "tables" / "models.yaml"
ALIASES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "chosen": ("num_experts_per_tok",),
}
LAYER = re.compile(r"(?!.*(?:vision|audio)).*?\b(\d+)\.")  # the towers of other inputs have layers, too


@dataclass(frozen=True)
class Shape:
    """``layer_weights``: of each layer, in order; ``layer_active``: of those, the weights that one token is
    multiplied with, in a mixture those of the experts that compute it. ``outside``: weights in no layer.
    ``linear``: input and output width of all linear layers of a name together.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    layer_weights: tuple[int, ...]
    layer_active: tuple[float, ...]
    outside: int
    linear: Mapping[str, int] = field(default_factory=dict, compare=False)
    dtype: str = field(default="float32", compare=False)

    @property
    def layers(self) -> int:
        return len(self.layer_weights)

    @property
    def active(self) -> float:
        """Weights that one token is multiplied with in all layers, without the output head."""
        return sum(self.layer_active)

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.hidden * self.vocabulary

    @property
    def tied(self) -> bool:
        """Whether the embeddings are the output head."""
        return self.outside < 2 * self.head

    @property
    def parameters(self) -> int:
        return sum(self.layer_weights) + self.outside

    @property
    def bytes(self) -> int:
        return self.parameters * BYTES[self.dtype]

    @property
    def width(self) -> int:
        """Of the widest feed-forward part that one token goes through, of three matrices or fewer."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return max(self.intermediate, round((max(self.layer_active) - attention) / (3 * self.hidden)))


def shape_from(config: Mapping, sizes: Mapping[str, Sequence[int]], dtype: str = "float32") -> Shape:
    """``config``: a model's ``config.json``; ``sizes``: of each of its weights, by name.

    Raises UserError when the configuration lacks a number, and for a model without layers.
    """
    config = config.get("text_config") or config
    found = {name: next(filter(None, map(config.get, keys)), None) for name, keys in ALIASES.items()}
    if missing := [ALIASES[name][0] for name in ("hidden", "heads", "vocabulary") if not found[name]]:
        raise UserError(f"config.json of the model has no {', '.join(missing)}: its size cannot be estimated")
    # transformers' Llama 4 gives every token to every expert, zeros to those not chosen
    every = not found["experts"] or config.get("model_type") == "llama4_text"
    share = 1 if every else found["chosen"] / found["experts"]
    weights, active, linear = Counter(), Counter(), Counter()
    for name, size in sizes.items():
        if layer := LAYER.match(name):
            weights[int(layer[1])] += prod(size)
            # norms and biases are in no matrix product
            active[int(layer[1])] += prod(size) * (share if ".experts." in name else 1) * (len(size) > 1)
            linear[name.split(".")[-2]] += sum(size) * (len(size) == 2)
    if not weights:
        raise UserError("the model has no numbered layers: its size cannot be estimated")
    return Shape(
        hidden=found["hidden"],
        heads=found["heads"],
        kv_heads=config.get("num_key_value_heads") or found["heads"],
        head_dim=config.get("head_dim") or found["hidden"] // found["heads"],
        intermediate=found["intermediate"] or 4 * found["hidden"],
        vocabulary=found["vocabulary"],
        layer_weights=tuple(weights[layer] for layer in sorted(weights)),
        layer_active=tuple(active[layer] for layer in sorted(active)),
        outside=sum(map(prod, sizes.values())) - weights.total(),
        linear=linear,
        dtype=dtype,
    )


def shape_of(snapshot: Path, dtype: str = "float32") -> Shape:
    """The shape of a snapshot. Raises FileNotFoundError, naming ``snapshot``, when it is not there yet."""
    file = Path(snapshot) / "config.json"
    if not file.exists():
        raise FileNotFoundError(2, "the model is not prepared yet", str(snapshot))
    return replace(_read(file, file.stat().st_mtime_ns), dtype=dtype)


@lru_cache  # Snakemake asks several times for every job
def _read(file: Path, written: int) -> Shape:
    """``written``: when the file was, as a run may make the snapshot anew."""
    return shape_from(json.loads(file.read_text(encoding="utf-8")), weight_sizes(file.parent))


def model_shape(model) -> Shape:
    """The shape of a model of transformers."""
    return shape_from(model.config.to_dict(), {n: p.shape for n, p in model.named_parameters()})


@cache
def known_models() -> dict[str, dict]:
    """Configurations of models by their usual names."""
    return yaml.safe_load(MODELS.read_bytes())


def known_shape(name: str, dtype: str) -> Shape:
    """The shape of a model by its usual name. Raises UserError for a name that is not known."""
    if name not in known_models():
        raise unknown("model", name, sorted(known_models()))
    return replace(_empty_model(name), dtype=dtype)


@cache
def _empty_model(name: str) -> Shape:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):  # sizes without storage: a model of 800 GB is there in a quarter of a second
        return model_shape(AutoModelForCausalLM.from_config(AutoConfig.for_model(**known_models()[name])))
