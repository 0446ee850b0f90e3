"""Tokenizers of every kind that the library tokenizers knows, small and built in code."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import tiny_models

TEXT = [
    "x: c\ny: d e\n\n",
    "Input: hot\nOutput: cold",
    "user\nassistant\nabcdefghijklmnopqrstuvwxyz.1<|>/_",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>", "<|end|>"]
ALPHABET = sorted({c for text in TEXT for c in text} | set("▁ABIO"))


def _wrapped(backend: Tokenizer, **more) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=["<|turn|>", "<|end|>"],
        **more,
    )


def _bpe(prepared: Callable[[Tokenizer], None], alphabet=ALPHABET) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    prepared(backend)
    trainer = trainers.BpeTrainer(
        vocab_size=max(tiny_models.VOCABULARY - 20, len(alphabet) + 20),
        special_tokens=SPECIAL,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    begin = ("<s>", backend.token_to_id("<s>"))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    return _wrapped(backend, unk_token="<unk>")


def joining() -> PreTrainedTokenizerFast:
    """No split into words: a token goes from a label to the answer behind it."""
    return _bpe(lambda backend: None)


def byte_level() -> PreTrainedTokenizerFast:
    def prepare(backend):
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()

    return _bpe(prepare)


def bytes_only() -> PreTrainedTokenizerFast:
    """As GPT-2, with a token for every byte: what is read can be written."""

    def prepare(backend):
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()

    return _bpe(prepare, alphabet=pre_tokenizers.ByteLevel.alphabet())


def blanks_in_words(scheme: str) -> Callable[[], PreTrainedTokenizerFast]:
    """As sentencepiece: a blank is a letter, put in front of every text, or of its first part, or of none."""

    def prepare(backend):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        backend.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)

    return lambda: _bpe(prepare)


def prepending() -> PreTrainedTokenizerFast:
    """As Llama's first tokenizer: a normalizer puts a blank in front, also behind a special token."""

    def prepare(backend):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])

    return _bpe(prepare)


def unigram() -> PreTrainedTokenizerFast:
    """Special tokens stand in the vocabulary that texts are cut into."""
    pieces = [(token, 0.0) for token in SPECIAL] + [(c, -5.0) for c in ALPHABET]
    backend = Tokenizer(models.Unigram([*pieces, ("▁cold", -6.0), (":▁c", -6.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    backend.add_special_tokens(SPECIAL)
    return _wrapped(backend, unk_token="<unk>")


def lower_case() -> PreTrainedTokenizerFast:
    """Words between blanks, in small letters and without accents; special tokens too are read in any case."""
    words = ["input:", "output:", "hot", "cold", "x:", "c", "a", ".", "1", "cafe", "<|end|>x"]
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrapped(backend, unk_token="<unk>")


READERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "joining": joining,
    "byte_level": byte_level,
    "blank always": blanks_in_words("always"),
    "blank first": blanks_in_words("first"),
    "blank never": blanks_in_words("never"),
    "prepending": prepending,
    "unigram": unigram,
    "lower_case": lower_case,
}
