"""Folders with models as people have them: adapters, shards, other files, chat templates, odd tokenizers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

import reference
from anamnesis.core.errors import UserError
from anamnesis.models import tokenizers
from anamnesis.models.loading import load_model
from anamnesis.models.sources import prepare_model
from tiny_models import build, save_snapshot, shared, token_ids, tokenizer, write_gguf

PROMPT = token_ids(1, 9)[0]
SHARD = "model-{:05d}-of-00004.safetensors"


@pytest.fixture
def folder(tmp_path):
    return save_snapshot(tmp_path / "there")


def add_adapter(folder):
    adapted = get_peft_model(build("llama"), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = "meta/base"
    adapted.save_pretrained(folder)


def remove(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def cut_into_shards(folder, *without):
    (folder / "model.safetensors").unlink()
    build("llama").save_pretrained(folder, max_shard_size="100KB")
    remove(*without)(folder)


def change_json(file, **more):
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def is_the_model(folder, out):
    facts = prepare_model(f"path:{folder}", None, out)
    model, words = load_model(out, device="cpu")
    assert torch.equal(reference.logits(model, PROMPT), reference.logits(shared("llama"), PROMPT))
    assert words("hot cold").input_ids == tokenizer()("hot cold").input_ids
    return facts


# ---------------------------------------------------------------- weights

READ = {
    "an adapter beside the model": add_adapter,
    "shards with their index": cut_into_shards,
    "shards without an index": lambda f: cut_into_shards(f, "model.safetensors.index.json"),
    "shards, an index and an adapter": lambda f: (cut_into_shards(f), add_adapter(f)),
    "shards and the layout of another tool": lambda f: (
        cut_into_shards(f),
        save_file({"a": torch.zeros(2)}, f / "consolidated.safetensors"),
    ),
    "one file and shards of another save": lambda f: save_file({"a": torch.zeros(2)}, f / SHARD.format(1)),
    "pickled weights too": lambda f: (f / "pytorch_model.bin").write_bytes(b"damaged"),
    "a file of another name": lambda f: (f / "model.safetensors").rename(f / "weights.safetensors"),
    "a quantised copy too": lambda f: (f / "tiny.gguf").write_bytes(b"GGUF damaged"),
    "what training leaves": lambda f: (f / "optimizer.pt").write_bytes(b"x"),
}


@pytest.mark.parametrize("name", READ)
def test_the_model_of_a_folder_is_found_among_other_files(folder, tmp_path, caplog, name):
    READ[name](folder)
    before = sorted(folder.iterdir())
    is_the_model(folder, tmp_path / "out")
    assert sorted(folder.iterdir()) == before
    named = f"{folder}: the model there is taken, and the adapter there (adapter_config.json) is left out"
    assert (named in caplog.text) == ("adapter" in name)
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "out").glob("*.json"))


def test_an_adapter_in_the_folder_of_a_gguf_file_changes_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    write_gguf(tmp_path / "there" / "tiny.gguf", build("llama"))
    for name, source in (("1", "there"), ("2", "there/tiny.gguf")):
        prepare_model(f"path:{tmp_path / source}", None, tmp_path / name)
        add_adapter(tmp_path / "there")
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (add_adapter(f), remove("model.safetensors")(f)),
            r"holds a PEFT adapter of the model meta/base, not a model: merge it into that model",
        ),
        (
            lambda f: (add_adapter(f), remove("model.safetensors", "config.json")(f)),
            r"holds a PEFT adapter of the model meta/base, not a model",
        ),
        (
            lambda f: cut_into_shards(f, SHARD.format(2)),
            r"lacks model-00002-of-00004.safetensors, one of 1 missing of the 4 weight files that",
        ),
        (
            lambda f: cut_into_shards(f, SHARD.format(1), "model.safetensors.index.json"),
            r"holds 3 of 4 weight files \(model-00002-of-00004.safetensors is one\): download all again",
        ),
        (
            lambda f: (cut_into_shards(f), (f / "model.safetensors.index.json").write_text("{}")),
            r"index\.json does not say which files hold the weights \('weight_map'\): download it again",
        ),
        (
            lambda f: (cut_into_shards(f), (f / "model.safetensors.index.json").write_text('{"weight_map"')),
            r"index\.json does not say which files hold the weights",
        ),
        (
            lambda f: (
                cut_into_shards(f),
                change_json(f / "model.safetensors.index.json", weight_map={"a": "../secret.safetensors"}),
            ),
            r"index\.json does not say which files hold the weights \(a name is a path\)",
        ),
        (
            lambda f: (
                cut_into_shards(f, "model.safetensors.index.json"),
                (f / SHARD.format(3)).write_bytes(b"cut"),
            ),
            r"model-00003-of-00004\.safetensors cannot be read \(.*\): it is damaged; download it again",
        ),
        (
            lambda f: (
                (f / "model.safetensors").rename(f / "a.safetensors"),
                shutil.copy(f / "a.safetensors", f / "b.safetensors"),
            ),
            r"holds several weight files and no .*\(a\.safetensors, b\.safetensors\): keep",
        ),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
            r"there/model\.safetensors is a pointer of Git LFS, not the file: run 'git lfs pull'",
        ),
        (
            lambda f: ((f / "sub").mkdir(), (f / "config.json").rename(f / "sub" / "config.json")),
            r"holds neither config\.json .*; \S*there/sub has a config\.json: perhaps that is meant",
        ),
    ],
)
def test_a_folder_without_a_whole_model_is_refused_in_one_line(folder, tmp_path, change, message):
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        prepare_model(f"path:{folder}", None, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_weight_file_is_no_source(folder, tmp_path):
    with pytest.raises(UserError, match=r"there/model\.safetensors', which is no GGUF file: give a folder"):
        prepare_model(f"path:{folder}/model.safetensors", None, tmp_path / "out")


@pytest.mark.parametrize("written", ["~/there", "$MODELS_HERE/there"])
def test_the_path_of_a_source_is_read_as_a_shell_would(folder, tmp_path, monkeypatch, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS_HERE", str(tmp_path))
    prepare_model(f"path:{written}", None, tmp_path / "out")
    monkeypatch.delenv("MODELS_HERE")
    with pytest.raises(UserError, match="environment variable MODELS_HERE is not set"):
        prepare_model("path:$MODELS_HERE/there", None, tmp_path / "out")


# ---------------------------------------------------------------- tokenizers


def test_chat_templates_in_files_of_their_own_are_part_of_the_snapshot_and_its_digest(folder, tmp_path):
    plain = is_the_model(folder, tmp_path / "1")["snapshot_sha256"]
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    one = is_the_model(folder, tmp_path / "2")["snapshot_sha256"]
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ 1 }}")
    two = is_the_model(folder, tmp_path / "3")["snapshot_sha256"]
    assert len({plain, one, two}) == 3
    _, words = load_model(tmp_path / "3", device="cpu")
    assert words.chat_template == {"default": "{{ messages[0].content }}", "tool_use": "{{ 1 }}"}


@pytest.mark.parametrize("names", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "gemma3", "neox"])
def test_a_model_without_a_tokenizer_is_refused(tmp_path, architecture, names):
    """transformers makes a tokenizer without words for some of them, and says nothing."""
    folder = save_snapshot(tmp_path / "there", architecture)
    remove(*names)(folder)
    with pytest.raises(
        UserError, match=r"there has no tokenizer, or one without words: copy tokenizer\.json"
    ):
        prepare_model(f"path:{folder}", None, tmp_path / "out")


def test_half_a_tokenizer_is_refused(tmp_path):
    folder = save_snapshot(tmp_path / "there", "gpt2")
    (folder / "vocab.json").write_text(json.dumps(tokenizer().get_vocab()))
    (folder / "tokenizer.json").unlink()
    change_json(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    with pytest.raises(UserError, match=r"the model in \S*there cannot be read \(.*merges.*\): give whole"):
        prepare_model(f"path:{folder}", None, tmp_path / "out")


@pytest.mark.parametrize("installed", [False, True])
def test_a_tokenizer_of_sentencepiece_alone_names_the_package(folder, tmp_path, monkeypatch, installed):
    remove("tokenizer.json")(folder)
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    monkeypatch.setattr(tokenizers, "find_spec", lambda name: installed or None)
    message = (
        r"the model in \S*there cannot be read \("
        if installed
        else r"takes the package sentencepiece: install"
    )
    with pytest.raises(UserError, match=message) as caught:
        prepare_model(f"path:{folder}", None, tmp_path / "out")
    assert ("tokenizer.json that other copies" in str(caught.value)) == (not installed)


def test_both_kinds_of_tokenizer_need_no_sentencepiece(folder, tmp_path, monkeypatch):
    (folder / "tokenizer.model").write_bytes(b"not read")
    monkeypatch.setattr(tokenizers, "find_spec", lambda name: None)
    is_the_model(folder, tmp_path / "out")
