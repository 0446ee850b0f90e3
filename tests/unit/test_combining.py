"""One adapter in place of a chain is equal to the chain, or is refused."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

import reference
from anamnesis.core.errors import UserError
from anamnesis.models.cards import OnHub
from anamnesis.models.combining import save_combined
from tiny_models import build, token_ids

BASE = OnHub("someone/model", "abc")


def trained(folder, *stages):
    """The adapters of some stages, each on the model with the earlier ones merged, and the last model."""
    model, chain = build("llama"), []
    for number, settings in enumerate(stages):
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        for name, weight in adapted.named_parameters():
            if "lora" in name:
                nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(number))
        chain.append(folder / str(number))
        adapted.save_pretrained(chain[-1])
        model = adapted.merge_and_unload()
    return chain, model


@pytest.mark.parametrize(
    "stages",
    [
        [
            {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
            {"r": 3, "lora_alpha": 3, "target_modules": ["v_proj", "down_proj"]},
        ],
        # PEFT writes the whole output head with its adapter
        [{"r": 2, "target_modules": ["q_proj", "lm_head"]}, {"r": 2, "target_modules": ["lm_head"]}],
    ],
    ids=["ranks, scales and modules", "output head"],
)
def test_one_adapter_is_equal_to_the_chain(tmp_path, stages):
    chain, model = trained(tmp_path, *stages)
    save_combined(chain, tmp_path / "one", BASE)
    one, ids = PeftModel.from_pretrained(build("llama"), tmp_path / "one"), token_ids(3, 9)[0]
    reference.close(reference.logits(one, ids), reference.logits(model, ids))


def test_an_adapted_embedding_which_a_sum_would_leave_out_is_refused(tmp_path):
    chain, _ = trained(
        tmp_path,
        {"r": 2, "target_modules": ["q_proj"]},
        {"r": 2, "target_modules": ["q_proj", "embed_tokens"]},
    )
    with pytest.raises(UserError, match=r"adapts embed_tokens, .*: export the merged model, without"):
        save_combined(chain, tmp_path / "one", BASE)
