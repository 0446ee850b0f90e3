"""Models and tokenizers of further kinds: prepared as they are, or refused in one line with the remedy."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import readers
import reference
import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode, encode_pairs
from anamnesis.engine.exactness import check_exact
from anamnesis.engine.line_end import LineEnd
from anamnesis.models.loading import load_model, load_tokenizer
from anamnesis.models.sources import prepare_model
from anamnesis.models.tokenizers import without_dropout
from tiny_models import build, save_snapshot, write_gguf

PROMPT = tiny_models.token_ids(1, 9)[0]


@pytest.fixture
def folder(tmp_path):
    return save_snapshot(tmp_path / "there")


def prepared(folder):
    prepare_model(f"path:{folder}", None, folder.parent / "out", check_exact)
    return load_model(folder.parent / "out", device="cpu")


def change_json(file, **more):
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", {"format": "pt"})


def with_nan(weights):
    weights["model.embed_tokens.weight"][7, 3] = float("nan")
    return weights


def link_to_nothing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone")


def several_gguf(folder):
    (folder / "model.safetensors").unlink()
    for name in ("a.gguf", "b.GGUF"):
        (folder / name).write_bytes(b"GGUF")


BIAS = {"model.layers.0.self_attn.q_proj.bias": torch.ones(48)}
NORM = {"model.layers.0.self_attn.q_norm.weight": torch.ones(12)}
REFUSED = {
    "fewer layers than weights": (
        lambda f: change_json(f / "config.json", num_hidden_layers=2),
        r"9 of its weights, the first is model\.layers\.2\..*, have no place in the model",
    ),
    "a bias that is not said": (
        lambda f: change_weights(f, lambda weights: weights | BIAS),
        r"1 of its weights, the first is model\.layers\.0\.self_attn\.q_proj\.bias, have no place",
    ),
    "a norm that is not said": (
        lambda f: change_weights(f, lambda weights: weights | NORM),
        r"q_norm\.weight, have no place",
    ),
    "names of a parallel training": (
        lambda f: change_weights(f, lambda weights: {f"module.{n}": w for n, w in weights.items()}),
        "30 of its weights are missing",
    ),
    "one weight that is no number": (
        lambda f: change_weights(f, with_nan),
        r"1 weights of LlamaForCausalLM hold NaN or infinite values, the first is model\.embed_tokens",
    ),
    "a link to nothing": (link_to_nothing, r"model\.safetensors: no such file; .* copy what it leads to"),
    "several GGUF files": (several_gguf, r"holds 2 GGUF files \(a\.gguf, b\.GGUF\): give the path of one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_would_be_another_are_refused(folder, name):
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(UserError, match=message):
        prepared(folder)


FURTHER = {"model.layers.3.self_attn.q_proj.weight": torch.ones(2, 2)}
BUFFERS = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6), "tower.weight": torch.ones(2)}
READ = {
    "what older versions kept": lambda f: change_weights(f, lambda weights: weights | BUFFERS),
    "a layer that predicts further tokens": lambda f: (
        change_json(f / "config.json", num_nextn_predict_layers=1),
        change_weights(f, lambda weights: weights | FURTHER),
    ),
    "more outputs asked for": lambda f: change_json(
        f / "config.json", output_attentions=True, output_hidden_states=True
    ),
    "weights of double length": lambda f: change_weights(
        f, lambda weights: {name: weight.double() for name, weight in weights.items()}
    ),
    "dropout in attention": lambda f: change_json(f / "config.json", attention_dropout=0.5),
    "no memory of keys": lambda f: change_json(f / "config.json", use_cache=False),
    "several ends": lambda f: change_json(f / "config.json", eos_token_id=[0, 5]),
}


@pytest.mark.parametrize("name", READ)
def test_models_that_are_prepared_as_they_are(folder, name):
    READ[name](folder)
    model, _ = prepared(folder)
    assert torch.equal(reference.logits(model, PROMPT), reference.logits(tiny_models.shared("llama"), PROMPT))


@pytest.mark.parametrize("name", ["with blank", "ünï", "a#b", "it's", "a%20b", "a:b@c", "{x}"])
def test_names_of_folders_have_no_say(tmp_path, name):
    prepared(save_snapshot(tmp_path / name))


def test_the_ending_of_a_gguf_file_may_be_in_capitals(tmp_path):
    (tmp_path / "there").mkdir()
    write_gguf(tmp_path / "there" / "M.GGUF", build("llama"))
    prepared(tmp_path / "there")


# ---------------------------------------------------------------- tokenizers


def changed(**more):
    """The tiny tokenizer with other settings of its model or of itself."""
    description = json.loads(tiny_models.tokenizer().backend_tokenizer.to_str())
    description["model"]["dropout"] = more.pop("dropout", None)
    backend = Tokenizer.from_str(json.dumps(description | more))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")


def test_a_text_is_read_alike_each_time(folder, caplog):
    """A tokenizer that was trained with dropout has it still where it was saved."""
    tokenizer, texts = changed(dropout=0.5), ["Input: hot\nOutput: cold"] * 20
    assert len({tuple(ids) for ids in encode(tokenizer, texts)}) > 1
    tokenizer.save_pretrained(folder)
    expected = encode(tiny_models.tokenizer(), texts)
    assert encode(load_tokenizer(folder), texts) == expected
    assert encode(prepared(folder)[1], texts) == expected
    assert "the tokenizer's dropout (0.5) is left out" in caplog.text
    assert json.loads((folder.parent / "out" / "tokenizer.json").read_text())["model"]["dropout"] is None
    assert encode(without_dropout(tokenizer), texts) == expected


TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
    "pad_type_id": 0, "pad_token": "<end>",
}  # fmt: skip


@pytest.mark.parametrize("more", [{"truncation": TRUNCATION}, {"padding": PADDING}])
def test_lengths_that_a_tokenizer_was_saved_with_have_no_say(more):
    texts = ["Input: hot\nOutput: cold", "<end> in data"]
    assert encode(changed(**more), texts) == encode(tiny_models.tokenizer(), texts)


def test_blanks_before_punctuation_stay_in_answers():
    """Targets have them where the data were split into words; some tokenizers would remove them."""
    words = ["[UNK]", "it", "'s", "do", "n't", ",", "."]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = (
        pre_tokenizers.WhitespaceSplit(),
        decoders.WordPiece(cleanup=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", clean_up_tokenization_spaces=True
    )
    text = "it 's , do n't ."
    assert tokenizer.decode(encode(tokenizer, [text])[0]) != text
    assert LineEnd(tokenizer).text(encode(tokenizer, [text])[0]) == text


@pytest.mark.parametrize("around", ["<s> $A <|end|>", "<s> $A </s> </s>", "$A <|turn|> </s>", "<s> $A"])
def test_nothing_that_a_tokenizer_appends_stands_between_prompt_and_answer(around):
    """Its own end of text, or that of the model it was made from, once or twice."""
    tokenizer, plain = readers.bytes_only(), readers.bytes_only()
    ids = [(name, plain.convert_tokens_to_ids(name)) for name in ("<s>", "</s>", "<|turn|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=around, special_tokens=ids)
    begin = [plain.bos_token_id] * around.startswith("<s>")
    ((prompt, answer),) = encode_pairs(tokenizer, ["Input: hot\nOutput:"], [" cold"])
    assert prompt == begin + plain("Input: hot\nOutput:", add_special_tokens=False).input_ids
    assert answer == plain(" cold", add_special_tokens=False).input_ids
    assert encode(tokenizer, ["Input: hot\nOutput:"]) == [prompt]
