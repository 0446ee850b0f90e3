"""The adapter of a stage: made, and saved as plain PEFT with a card that says how to load a chain of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamnesis.core.artifacts import read_json, write_json, write_text
from anamnesis.core.errors import UserError
from anamnesis.models.cards import OnHub, adapter_card
from anamnesis.models.targets import adapter_targets, matching


def add_lora(model, settings: Mapping, seed: int, key: str = "training.lora"):
    """``model`` with a fresh LoRA adapter, initialised from ``seed``. ``settings``: rank, alpha, dropout,
    target_modules; ``key``: where they stand in the configuration, for messages.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    targets = adapter_targets(model, settings["target_modules"], key)
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def add_osf(model, target_modules: Sequence[str], preserved: float):
    """``model`` whose target weights are split by their singular values: the share ``preserved`` of the
    directions, the largest first, stays, the others are trained at right angles to them.

    Raises UserError where so small a share leaves a weight no direction to preserve.
    """
    from peft import OSFConfig, get_peft_model

    targets = adapter_targets(model, target_modules)
    smallest = min(min(module.weight.shape) for _, module in matching(model, targets))
    if int(smallest * preserved) < 1:
        raise UserError(
            f"methods.osf.preserved = {preserved:g}: of the {smallest} singular directions of the smallest "
            f"weight none would be preserved; give at least {1 / smallest:.2g}"
        )
    config = OSFConfig(effective_rank=float(preserved), target_modules=targets, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    if not any(p.requires_grad for p in tuned.parameters()):
        raise UserError(
            f"osf cannot adapt {', '.join(target_modules)} of {type(model).__name__} "
            "(training.lora.target_modules): it takes torch.nn.Linear layers only; name others, or choose "
            "another method"
        )
    return tuned


def linear_layers(blocks: Sequence, model) -> list[str]:
    """Full names in ``model`` of the linear layers (Linear, or GPT-2's Conv1D) inside its decoder layers."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    inside = {module for block in blocks for module in block.modules() if isinstance(module, Linear | Conv1D)}
    return [name for name, module in model.named_modules() if module in inside]


def save_adapter(
    model, folder: Path, base: str, earlier: Sequence[str], own: str = "", where: OnHub | None = None
) -> None:
    """Write the adapter (safetensors) and its card (``cards.adapter_card``). ``base``: the base model's name,
    for people; ``earlier``: adapters that are merged before; ``own``: where this one will be; ``where``: the
    base model on the hub.
    """
    model.save_pretrained(folder, safe_serialization=True)
    settings = sort_modules(folder)
    found, order = settings["base_model_name_or_path"], [*earlier, own or str(folder)]
    if len(order) > 1:
        # PEFT would load the adapter on the base model, which is not what it was trained on, without a word
        settings["base_model_name_or_path"] = f"stage {len(order)} needs the stages before it, see README.md"
    elif where:
        settings |= {"base_model_name_or_path": where.repository, "revision": where.revision}
    write_json(Path(folder) / "adapter_config.json", settings)
    write_text(Path(folder) / "README.md", adapter_card(base, order, where or found or base))


def sort_modules(folder: Path) -> dict:
    """Sort the names of modules in an adapter's configuration: PEFT keeps them in a set, whose order differs
    from process to process. Returns the configuration.
    """
    settings = read_json(Path(folder) / "adapter_config.json")
    if isinstance(settings["target_modules"], list):
        settings["target_modules"].sort()
    write_json(Path(folder) / "adapter_config.json", settings)
    return settings
