"""One adapter in place of a chain of them, for a base model that others have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import read_json, read_tensors, write_json, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.models.cards import OnHub

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"


def save_combined(adapters: Sequence[Path], folder: Path, base: OnHub) -> None:
    """Write to ``folder`` the one PEFT adapter of ``base`` that is equal to ``adapters`` merged one after the
    other: a sum of low-rank updates is one update, whose rank is the sum of theirs.

    Raises UserError for several adapters of which one is not low-rank, or adapts an embedding.
    """
    settings = read_json(Path(adapters[-1]) / "adapter_config.json")
    weights = read_tensors(Path(adapters[-1]) / "adapter_model.safetensors")
    if len(adapters) > 1:
        weights, changes = _sum([Path(adapter) for adapter in adapters])
        settings |= changes
    settings |= {"base_model_name_or_path": base.repository, "revision": base.revision}
    write_tensors(folder / "adapter_model.safetensors", weights)
    write_json(folder / "adapter_config.json", settings)


def _sum(adapters: Sequence[Path]) -> tuple[dict[str, torch.Tensor], dict]:
    """(weights of the sum, what its configuration says otherwise than each of theirs)."""
    import torch

    parts: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    named = set()
    for adapter in adapters:
        settings = read_json(adapter / "adapter_config.json")
        if settings["peft_type"] != "LORA":
            raise UserError(
                f"{adapter} is no low-rank adapter ({settings['peft_type']}), so that no single adapter is "
                f"equal to all {len(adapters)} of the chain: export the merged model, without --adapter"
            )
        scale = settings["lora_alpha"] / settings["r"]
        weights = read_tensors(adapter / "adapter_model.safetensors")
        if others := [name for name in weights if ".lora_" in name and not name.endswith((A, B))]:
            module = others[0].partition(".lora_")[0].rpartition(".")[2]
            raise UserError(
                f"{adapter} adapts {module}, whose update is no product of the same form, so that no single "
                f"adapter is equal to all {len(adapters)} of the chain: export the merged model, without "
                "--adapter"
            )
        named.add(tuple(settings["target_modules"]))
        for name in sorted(name.removesuffix(A) for name in weights if name.endswith(A)):
            parts.setdefault(name, []).append((weights[name + A], scale * weights[name + B]))
    total = {name + A: torch.cat([a for a, _ in pairs]) for name, pairs in parts.items()}
    total |= {name + B: torch.cat([b for _, b in pairs], dim=1) for name, pairs in parts.items()}
    ranks = {name.removeprefix(PREFIX): len(total[name + A]) for name in parts}
    rank = max(ranks.values())
    # modules that not all adapters have: PEFT reads a name in a pattern as a regular expression
    fewer = {name.replace(".", r"\."): size for name, size in sorted(ranks.items()) if size != rank}
    modules = list(named.pop()) if len(named) == 1 else sorted(ranks)
    return total, {
        "r": rank,
        "lora_alpha": rank,  # the scale is 1: those of the adapters are in the weights
        "rank_pattern": fewer,
        "alpha_pattern": fewer,
        "target_modules": modules,
    }
