"""Which layers of a model adapters may go to. What is known of a model is kept in the record of its
preparation, so that a configuration is checked against it without loading either model or torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from anamnesis.core.errors import UserError


@dataclass(frozen=True)
class Adaptable:
    """Names (their last parts) of the weight matrices of a language model. ``layers``: inside decoder layers;
    ``attention``: those of them in attention; ``outside``: embedding and output head; ``tied``: whether these
    two share their weights.
    """

    model: str
    layers: Sequence[str]
    attention: Sequence[str]
    outside: Sequence[str]
    tied: bool

    def record(self) -> dict:
        return asdict(self)

    def check(self, targets: Iterable[str], key: str) -> None:
        """Raise UserError for names that the language model lacks, and for an embedding or output head that
        share their weights: what an adapter adds to one, it would not add to the other. ``key``: where the
        targets stand in the configuration.
        """
        last = {target: target.rsplit(".", 1)[-1] for target in targets}
        known = {*self.layers, *self.outside}
        choose = f"choose from {', '.join(self.attention or self.layers)}"
        if missing := [target for target, name in last.items() if name not in known]:
            raise UserError(
                f"{key}.target_modules names {', '.join(missing)}, which {self.model} does not have: {choose}"
            )
        shared = [target for target, name in last.items() if self.tied and name in self.outside]
        if shared:
            raise UserError(
                f"{key}.target_modules names {', '.join(shared)}, but the embedding and the output head of "
                f"{self.model} share their weights ({', '.join(self.outside)}), so that an adapter of one "
                f"cannot be merged: {choose}"
            )


def adaptable(model) -> Adaptable:
    """What a model of transformers, without adapters, has for them."""
    outside, language = _embedding_and_head(model), _language_modules(model)
    matrices = {n: m for n, m in model.named_modules() if m in language and _has_matrix(m)}
    layers = {name: name.rsplit(".", 1)[-1] for name, m in matrices.items() if m not in outside}
    return Adaptable(
        type(model).__name__,
        sorted(set(layers.values())),
        sorted({last for name, last in layers.items() if re.search("attn|atten", name)}),
        sorted(name.rsplit(".", 1)[-1] for name, m in matrices.items() if m in outside),
        len({id(m.weight) for m in outside}) < len(outside),
    )


def adapter_targets(model, targets: Sequence[str], key: str = "training.lora") -> list[str]:
    """``targets``, or the full names of those in the language model where other parts of the model (the
    vision tower of a multimodal one) have such names too. Raises UserError as ``Adaptable.check`` does.
    """
    adaptable(model).check(targets, key)
    language, found = _language_modules(model), matching(model, targets)
    inside = [name for name, module in found if module in language and _has_matrix(module)]
    return list(targets) if len(inside) == len(found) else inside


def matching(model, targets: Sequence[str]) -> list[tuple[str, object]]:
    """(full name, module) of every module that PEFT takes for one of ``targets``."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if any(name == target or name.endswith(f".{target}") for target in targets)
    ]


def _language_modules(model) -> set:
    """The modules of the decoder layers, the embedding and the output head; all of the model where it has no
    list of as many layers as its configuration says.
    """
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    decoder = model.get_decoder() or model
    lists = (m for m in decoder.modules() if type(m).__name__ == "ModuleList" and len(m) == count)
    layers = next(lists, None)  # the outermost comes first
    return set(model.modules()) if layers is None else {*layers.modules(), *_embedding_and_head(model)}


def _embedding_and_head(model) -> list:
    found = (model.get_input_embeddings(), model.get_output_embeddings())
    return [module for module in found if module is not None]


def _has_matrix(module) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and weight.dim() == 2 and not list(module.children())
