"""Tokenizers that add tokens of their own: what prompts and answers become, and where an answer ends."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode, encode_pairs
from anamnesis.engine.line_end import LineEnd

TEXTS = ["Input: hot\nOutput:", "Input: a longer one\nOutput:"]
ANSWERS = [" cold", " größer als"]
PATTERNS = ["$A", "$A <end>", "<turn> $A", "<turn> $A <end>"]


def plain(text: str) -> list[int]:
    """The ids without anything added."""
    return tiny_models.tokenizer()(text).input_ids


def tokenizer(pattern: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with a second special token <turn>, which adds tokens as in ``pattern``."""
    backend = Tokenizer.from_str(tiny_models.tokenizer().backend_tokenizer.to_str())
    backend.add_special_tokens(["<turn>"])
    special = [(token, backend.token_to_id(token)) for token in ("<end>", "<turn>")]
    backend.post_processor = TemplateProcessing(single=pattern, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", pad_token="<end>", extra_special_tokens=["<turn>"]
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_end_token_that_a_tokenizer_appends_does_not_come_between_prompt_and_answer(pattern):
    words = tokenizer(pattern)
    front = [words.convert_tokens_to_ids("<turn>")] if pattern.startswith("<turn>") else []
    assert (words(TEXTS[0]).input_ids[-1] == words.eos_token_id) == pattern.endswith("<end>")
    assert encode(words, TEXTS) == [front + plain(text) for text in TEXTS]
    for (head, tail), text, answer in zip(encode_pairs(words, TEXTS, ANSWERS), TEXTS, ANSWERS, strict=True):
        assert head == front + plain(text)
        assert head + tail == front + plain(text + answer)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_appended_end_token_is_no_answer(pattern):
    with pytest.raises(UserError, match="the answer '' gets no token of its own"):
        encode_pairs(tokenizer(pattern), TEXTS, ["", " cold"])


def test_text_of_nothing_but_an_end_token_keeps_it():
    """A prompt without tokens could not be continued."""
    words = tokenizer("$A <end>")
    assert encode(words, [""]) == [[words.eos_token_id]]


@pytest.mark.parametrize("reloaded", [False, True])
def test_generation_stops_at_a_second_end_token(tmp_path, reloaded):
    words = tokenizer("$A")
    if reloaded:
        words.save_pretrained(tmp_path)
        words = AutoTokenizer.from_pretrained(tmp_path)
    turn, answer, stop = words.convert_tokens_to_ids("<turn>"), plain(" cold"), LineEnd(words)
    assert turn != words.eos_token_id
    assert not any(stop(answer[:i]) for i in range(1, len(answer) + 1))
    assert stop([*answer, turn])
    assert stop([*answer, words.eos_token_id])
    assert stop.text([*answer, turn]) == "cold"


def test_generation_stops_at_an_end_token_that_is_special_without_being_named():
    """As where only the generation settings of a model list its second end token."""
    words = tiny_models.tokenizer()
    words.add_tokens([AddedToken("<done>", special=True)])
    done = words.convert_tokens_to_ids("<done>")
    assert LineEnd(words)([5, done])
    assert not LineEnd(tiny_models.tokenizer())([5])
