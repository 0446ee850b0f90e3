"""Adapters on top of a model: merged in their order, and refused when damaged or of another kind."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import reference
from anamnesis.core.artifacts import write_sums
from anamnesis.core.errors import UserError
from anamnesis.models import adapters
from anamnesis.models.loading import merge_adapters
from tiny_models import build, shared, token_ids

PROMPT = token_ids(1, 9)[0]


def save_adapter(folder, seed: int, name: str = "llama"):
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(build(name), config).save_pretrained(folder)
    return folder


def test_adapters_are_merged_one_after_another(tmp_path):
    folders = [save_adapter(tmp_path / str(seed), seed) for seed in (1, 2)]
    model = merge_adapters(build("llama"), folders)
    own = build("llama")
    for folder in folders:
        weights = load_file(folder / "adapter_model.safetensors")
        for layer, block in enumerate(own.model.layers):
            for part in ("q_proj", "v_proj"):
                a, b = (
                    weights[f"base_model.model.model.layers.{layer}.self_attn.{part}.lora_{x}.weight"]
                    for x in "AB"
                )
                getattr(block.self_attn, part).weight.data += 4.0 * b @ a  # alpha / r
    reference.close(reference.logits(model, PROMPT), reference.logits(own, PROMPT))
    assert not torch.allclose(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))
    assert merge_adapters(own, []) is own


def test_modules_are_saved_in_the_order_of_their_names(tmp_path):
    """PEFT has them in a set: in another order in every process."""
    modules = ["v_proj", "q_proj", "down_proj", "o_proj", "up_proj", "k_proj", "gate_proj"]
    settings = {"rank": 2, "alpha": 8.0, "dropout": 0.0, "target_modules": modules}
    adapters.save_adapter(adapters.add_lora(build("llama"), settings, 0), tmp_path, "base", [])
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["target_modules"] == sorted(modules)
    assert merge_adapters(build("llama"), [tmp_path])


def test_folder_without_an_adapter(tmp_path):
    with pytest.raises(
        UserError, match=r"is not a PEFT adapter \(no adapter_config.json\): train its stage again"
    ):
        merge_adapters(build("llama"), [tmp_path])


def cut(folder) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def without_weights(folder) -> None:
    (folder / "adapter_model.safetensors").unlink()


def without_some(folder) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def bad_settings(folder) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r"')


def pickled(folder) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def setting(**changes):
    def change(folder) -> None:
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(content | changes))

    return change


def not_what_was_written(folder) -> None:
    write_sums(folder)
    setting(lora_alpha=9)(folder)


REFUSED = {
    "another kind": setting(peft_type="XLORA", adapters={"1": "someone/something"}),
    "no kind": setting(peft_type=["LORA"]),
    "a module": setting(megatron_config={"a": 1}, megatron_core="somewhere.else"),
    "unknown settings": setting(strength=3),
    "digests": not_what_was_written,
    "pickle": pickled,
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_adapters_that_are_not_opened(tmp_path, change):
    folder = save_adapter(tmp_path / "adapter", 1)
    change(folder)
    with pytest.raises(UserError, match=r"cannot be loaded on this model \(.+\)"):
        merge_adapters(build("llama"), [folder])


def other_size(folder) -> None:
    tensors = {k: torch.cat([v, v]) for k, v in load_file(folder / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("damage", [cut, without_weights, without_some, bad_settings, other_size])
def test_damaged_adapter_is_named(tmp_path, damage):
    folder = save_adapter(tmp_path / "adapter", 1)
    damage(folder)
    with pytest.raises(
        UserError, match=r"the adapter \S*adapter cannot be loaded on this model \(.+\)"
    ) as caught:
        merge_adapters(build("llama"), [folder])
    assert "\n" not in str(caught.value)


def test_adapter_of_another_architecture_is_named(tmp_path):
    with pytest.raises(UserError, match="is damaged or belongs to another model"):
        merge_adapters(build("gpt2"), [save_adapter(tmp_path / "adapter", 1)])
