"""What does not fit together is found when the model is prepared: model and engine, tokenizer, adapters."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import reference
import tiny_models
from anamnesis.config.adapted import check_adapters
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError
from anamnesis.engine import tree_groups
from anamnesis.engine.exactness import check_exact
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, add_osf, save_adapter
from anamnesis.models.loading import check_tokenizer, load_model, open_adapter
from anamnesis.models.sources import prepare_model
from anamnesis.models.targets import adaptable, adapter_targets
from anamnesis.training.build import build
from anamnesis.training.loop import train_stage
from anamnesis.training.stage import Stage
from anamnesis.training.tuning import save_tuned

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from model_types import tiny

CONFIG = Path(__file__).parents[2] / "config.yaml"
LORA = {"rank": 2, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
TRAINING = {
    "epochs": 1, "batch_size": 4, "learning_rate": 1e-2, "optimizer": "adamw_torch", "scheduler": "constant",
    "weight_decay": 0.0, "warmup_ratio": 0.0, "gradient_accumulation": 1, "checkpoint_steps": 10**6,
}  # fmt: skip
(TEXT,) = tiny_models.token_ids(1, 12)


def lora(*targets: str) -> dict:
    return {**LORA, "target_modules": list(targets)}


# ---------------------------------------------------------------- tied embeddings


def tied_llama():
    return tiny_models.drawn(
        LlamaForCausalLM(LlamaConfig(**{**tiny_models.GROUPED, "tie_word_embeddings": True}))
    )


@pytest.mark.parametrize("make", [tied_llama, lambda: tiny_models.build("gpt2")])
def test_adapters_of_tied_embeddings_are_refused(make):
    """Merged, what such an adapter adds to one of the two would be added to both."""
    model = make()
    for target in adaptable(model).outside:
        message = (
            rf"training.lora.target_modules names {target}, but the embedding and the output head of .* share"
        )
        with pytest.raises(UserError, match=message) as caught:
            add_lora(model, lora(target), 0)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=message):
            add_osf(model, [target], 0.5)


@torch.no_grad()
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_of_embeddings_of_their_own_merge_as_trained(target, tmp_path):
    model = add_lora(tiny_models.build("llama"), lora("q_proj", target), 0).eval()
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    expected = reference.logits(model, TEXT)
    save_adapter(model, tmp_path, "base", [])
    merged = open_adapter(tiny_models.build("llama"), tmp_path).merge_and_unload()
    reference.close(reference.logits(merged, TEXT), expected)
    assert (expected - reference.logits(tiny_models.shared("llama"), TEXT)).abs().max() > 0.1


# ---------------------------------------------------------------- names of layers


def test_layers_that_a_model_lacks_are_named_with_its_attention_projections():
    with pytest.raises(
        UserError, match=r"q_proj, v_proj, which GPT2LMHeadModel .*: choose from c_attn, c_proj$"
    ):
        add_lora(tiny_models.build("gpt2"), LORA, 0)
    for target in ("input_layernorm", "self_attn", "mlp"):
        with pytest.raises(
            UserError, match=f"names {target}, which .*: choose from k_proj, o_proj, q_proj, v_proj"
        ):
            add_lora(tiny_models.build("llama"), lora(target), 0)
    assert adapter_targets(tiny_models.build("phi3"), ["qkv_proj"]) == ["qkv_proj"]


def test_a_run_does_not_begin_with_layers_that_the_prepared_model_lacks(tmp_path):
    folder = tiny_models.save_snapshot(tmp_path / "there", "gpt2")
    record = tmp_path / "gpt2.json"
    record.write_text(json.dumps(prepare_model(f"path:{folder}", None, tmp_path / "out")))
    config = {"training": {"lora": {"target_modules": ["c_attn"]}}}
    check_adapters(load_config([CONFIG, config]), record)
    with pytest.raises(UserError, match=r"training.lora.target_modules names q_proj, v_proj, which GPT2"):
        check_adapters(load_config([CONFIG]), record)
    tuned = config | {"tuning": {"lora": {"target_modules": ["lm_head"]}}}
    with pytest.raises(UserError, match=r"tuning.lora.target_modules names lm_head, but the embedding"):
        check_adapters(load_config([CONFIG, tuned]), record)
    check_adapters(load_config([CONFIG]), tmp_path / "none.json")


# ---------------------------------------------------------------- multimodal models


def multimodal():
    return tiny("gemma3").float()


def test_only_the_language_model_of_a_multimodal_one_gets_adapters():
    model = multimodal()
    assert any("vision" in name and name.endswith("q_proj") for name, _ in model.named_modules())
    for adapted in (add_lora(model, LORA, 0), add_osf(multimodal(), ["q_proj"], 0.5)):
        trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
        assert trained
        assert all("language_model.layers" in name for name in trained)


@pytest.mark.parametrize("method", ["inclora", "ewc", "olora", "osf", "seqlora"])
def test_every_method_trains_and_saves_a_multimodal_model(method, tmp_path):
    model = multimodal()
    adapted = add_osf(model, ["q_proj"], 0.5) if method == "osf" else add_lora(model, LORA, 0)
    texts = [(tuple(t[:8]), tuple(t[8:])) for t in tiny_models.token_ids(2, 11, 10, 12, 11)]
    settings = {
        "ewc": {"strength": 0.4, "fisher_examples": 4, "merge": "sum", "decay": 0.75},
        "olora": {"lambda1": 0.5, "lambda2": 0.1},
    }.get(method, {})
    stage = Stage(
        PrefixEngine(adapted), None, 1, with_shared_prefix(texts), settings, TRAINING, 1, 64, {}, (),
    )  # fmt: skip
    made, objective = build(method, stage)
    train_stage(stage.engine, made.batches(), objective, TRAINING, 1, tmp_path / "checkpoints")
    state = made.finish()
    assert all(value.isfinite().all() for value in (state or {}).values())
    expected = reference.logits(adapted.eval(), TEXT)
    save_adapter(adapted, tmp_path / "adapter", "base", [])
    opened = open_adapter(multimodal(), tmp_path / "adapter").eval()
    reference.close(reference.logits(opened, TEXT), expected)


def test_a_multimodal_model_is_prepared_and_tuned_into_snapshots(tmp_path):
    model, words = multimodal(), tiny_models.tokenizer()
    model.save_pretrained(tmp_path / "there")
    words.save_pretrained(tmp_path / "there")
    prepare_model(f"path:{tmp_path / 'there'}", None, tmp_path / "out", check_exact)
    prepared, _ = load_model(tmp_path / "out", device="cpu")
    reference.close(reference.logits(prepared, TEXT), reference.logits(model, TEXT))
    tuned = add_lora(prepared, LORA, 0).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora" in name:
                parameter.add_(0.1)
    expected = reference.logits(tuned, TEXT)
    save_tuned(tuned, words, "base", tmp_path / "adapter", tmp_path / "tuned")
    reference.close(reference.logits(load_model(tmp_path / "tuned", device="cpu")[0], TEXT), expected)


# ---------------------------------------------------------------- tokenizers


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused_when_prepared(tmp_path):
    small = {**tiny_models.GPT2, "vocab_size": 100}
    GPT2LMHeadModel(GPT2Config(**small)).save_pretrained(tmp_path / "there")
    tiny_models.tokenizer().save_pretrained(tmp_path / "there")
    largest = max(tiny_models.tokenizer().get_vocab().values())
    message = f"the tokenizer gives ids up to {largest}, but the embedding of GPT2LMHeadModel has 100 rows"
    with pytest.raises(UserError, match=message) as caught:
        prepare_model(f"path:{tmp_path / 'there'}", None, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("added", "special", "fits"), [
    ("<image>", False, False),
    ("<unused>", True, True),  # no text gives it
    ("<|turn|>", True, False),  # the chat template does
])  # fmt: skip
def test_a_token_that_was_added_needs_a_row_if_a_text_can_give_it(added, special, fits):
    words, model = copy.deepcopy(tiny_models.tokenizer()), tiny_models.shared("llama")
    check_tokenizer(words, model)  # has fewer ids than the embedding has rows
    words.chat_template = "<|turn|>{{ messages[0].content }}"
    rows = model.get_input_embeddings().weight.shape[0]
    words.add_tokens([f"<{i}>" for i in range(rows - len(words))])
    words.add_tokens([AddedToken(added, special=special)], special_tokens=special)
    if fits:
        check_tokenizer(words, model)
        return
    with pytest.raises(UserError, match=f"ids up to {rows}, but"):
        check_tokenizer(words, model)


def test_a_tokenizer_without_offsets_is_refused():
    class Slow(type(tiny_models.tokenizer())):
        is_fast = False

    words = Slow(tokenizer_object=tiny_models.tokenizer().backend_tokenizer)
    with pytest.raises(UserError, match=r"does not say where in a text its tokens begin.*tokenizer\.json"):
        check_tokenizer(words, tiny_models.shared("llama"))


# ---------------------------------------------------------------- the engine


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_models_that_the_engine_covers_are_prepared(name):
    assert check_exact(tiny_models.shared(name)) < 1e-4


def test_a_model_that_the_engine_does_not_cover_is_not_prepared(tmp_path):
    folder = tmp_path / "there"
    tiny("doge").float().save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    with pytest.raises(
        UserError, match=r"DogeForCausalLM: the prefix engine differs .* use another model"
    ) as caught:
        prepare_model(f"path:{folder}", None, tmp_path / "out", check_exact)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_engine_that_attends_wrongly_is_noticed(dtype, monkeypatch):
    model = tiny_models.build("llama").to(dtype)
    check_exact(model)
    right = tree_groups.tree_mask
    monkeypatch.setattr(tree_groups, "tree_mask", lambda tree, n: right(tree, n).roll(1, 1) | right(tree, n))
    with pytest.raises(UserError, match="differs from plain forward passes"):
        check_exact(model)


@pytest.mark.parametrize("name", ["got_ocr2", "llama4"])
def test_other_composite_models_have_adapters_in_their_language_model_alone(name):
    model = tiny(name).float()
    adapted = add_lora(model, lora("q_proj", "v_proj", "o_proj"), 0)
    trained = {n.split(".lora_")[0] for n, p in adapted.named_parameters() if p.requires_grad}
    projections = [m for n, m in adapted.named_modules() if n in trained]
    layers = PrefixEngine(adapted).geometry.blocks
    inside = {m for layer in layers for m in layer.modules()}
    assert len(projections) == 3 * len(layers)
    assert all(m in inside for m in projections)


@pytest.mark.parametrize("name", ["granitemoe", "gpt_oss", "glm4_moe"])
def test_rounding_of_half_precision_is_no_reason_to_refuse_a_model(name):
    """It sends single tokens to other experts, and changes the likeliest token here and there."""
    check_exact(tiny(name).to(torch.bfloat16))
