"""A pool of latent tasks on disk: every slot an adapter that PEFT alone can load, the keys next to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anamnesis.core.artifacts import read_json, read_tensors, write_json, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import sort_modules
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from anamnesis.training.methods.jfa.latent_tasks import SMALLEST, LatentPool

if TYPE_CHECKING:
    from peft import LoraConfig

FOLDER, SETTINGS, KEYS, WEIGHTS = "latent", "settings.json", "keys.safetensors", "adapter_model.safetensors"

NOTE = """
## Latent tasks

With this adapter belong the latent tasks in `latent/`: every `slot<n>` is a LoRA adapter for the model with
all adapters above merged. A prompt uses a mixture of the slots nearest to it. Its query is the mean hidden
state of the encoder in `settings.json` over the prompt's tokens, at the layer given there (for `self`: of the
base model, without adapters), minus `centre` of `keys.safetensors`. Cut the query into as many segments as
`keys` has there; a slot's similarity is the mean over the segments of the cosine between query and key. The
weights of the `nearest` slots are their similarities, at least {smallest:g}, divided by their sum:

```python
slots = [f"slot{{n:02d}}" for n in nearest_slots]
model = PeftModel.from_pretrained(merged_model, latent / slots[0], adapter_name=slots[0])
for slot in slots[1:]:
    model.load_adapter(latent / slot, slot)
model.add_weighted_adapter(slots, weights, "prompt", combination_type="cat")
model.set_adapter("prompt")
```
"""


def save_pool(pool: LatentPool, encoder: PromptEncoder, engine: PrefixEngine, folder: Path) -> None:
    """Write the pool to ``folder``/latent and a paragraph on its use into the folder's README.md."""
    names = _projection_names(engine, pool.layers)
    for n in range(pool.down.shape[1]):
        slot = folder / FOLDER / f"slot{n:02d}"
        slot.mkdir(parents=True)
        _slot_config(pool, engine, names).save_pretrained(str(slot))
        sort_modules(slot)
        tensors = {}
        for name, down, up in zip(names, pool.down[:, n], pool.up[:, n], strict=True):
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up.T
        write_tensors(slot / WEIGHTS, tensors, {"format": "pt"})
    write_tensors(folder / FOLDER / KEYS, {"keys": pool.keys, "centre": pool.centre})
    settings = {
        "slots": pool.down.shape[1],
        "nearest": pool.nearest,
        "layers": list(pool.layers),
        "projections": names,
        "encoder": encoder.source,
        "encoder_layer": encoder.layer,
    }
    write_json(folder / FOLDER / SETTINGS, settings)
    with (folder / "README.md").open("a", encoding="utf-8") as note:
        note.write(NOTE.format(smallest=SMALLEST))


def load_pool(folder: Path) -> tuple[LatentPool, dict]:
    """The pool in an adapter's folder, and its settings. Raises UserError when there is none or a part is
    damaged.
    """
    latent = Path(folder) / FOLDER
    settings = read_json(latent / SETTINGS)
    try:
        slots = [read_tensors(latent / f"slot{n:02d}" / WEIGHTS) for n in range(settings["slots"])]
        names = [f"base_model.model.{name}" for name in settings["projections"]]
        down = torch.stack([torch.stack([s[f"{name}.lora_A.weight"] for s in slots]) for name in names])
        up = torch.stack([torch.stack([s[f"{name}.lora_B.weight"].T for s in slots]) for name in names])
        tensors = read_tensors(latent / KEYS)
        return LatentPool(
            tensors["keys"], tensors["centre"], down, up.contiguous(), settings["layers"], settings["nearest"]
        ), settings
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(
            f"the latent tasks in {latent} do not fit together ({error}): delete the stage folder, run again"
        ) from error


def _slot_config(pool: LatentPool, engine: PrefixEngine, names: list[str]) -> LoraConfig:
    from peft import LoraConfig

    projection = engine.geometry.projections[pool.layers[0]]
    base = getattr(projection, "base_layer", projection)
    rank = pool.down.shape[2]
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=names,
        fan_in_fan_out=not isinstance(base, torch.nn.Linear),  # GPT-2's Conv1D
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
    )


def _projection_names(engine: PrefixEngine, layers: Sequence[int]) -> list[str]:
    """Full names of the projections in the base model."""
    names = {module: name for name, module in engine.model.named_modules()}
    return [names[engine.geometry.projections[layer]].removeprefix("base_model.model.") for layer in layers]
