"""Tokens of texts by tokenizers that do one thing each, written here, so that every id is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import readers
from anamnesis.core.errors import UserError
from anamnesis.data.encoding import (
    _inside,
    _known,
    encode,
    encode_pairs,
    end_token,
    marked,
    token_ids,
    token_starts,
)
from anamnesis.data.prompts import Template
from anamnesis.data.text import MARK

BEGIN, END = 1, 2


class Letters:
    """A tokenizer written in Python: one token for each letter, its code; 1 in front and 2 behind."""

    is_fast, chat_template = False, None
    eos_token_id, all_special_tokens = END, ("<s>",)
    added_tokens_decoder = {BEGIN: AddedToken("<s>", special=True), 9: AddedToken("word")}  # noqa: RUF012

    def __len__(self):
        return 10

    def __call__(self, text: str, add_special_tokens: bool, split_special_tokens: bool):
        assert split_special_tokens
        assert not add_special_tokens
        return SimpleNamespace(input_ids=self.read(text))

    def read(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def build_inputs_with_special_tokens(self, ids: list[int]) -> list[int]:
        return [BEGIN, *ids, END]


class Places(Letters):
    """As letters, but a letter has another token at each place."""

    def read(self, text: str) -> list[int]:
        return [100 * place + ord(letter) for place, letter in enumerate(text)]


class Whole(Letters):
    """One token for each text, whatever stands in it: its length and its last letter."""

    def read(self, text: str) -> list[int]:
        return [1000 * len(text) + ord(text[-1])] if text else []


def codes(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_what_a_tokenizer_puts_around_a_text():
    assert token_ids(Letters(), ["ab", f"{MARK}<s>c"]) == [
        [BEGIN, *codes("ab"), END],
        [BEGIN, BEGIN, ord("c"), END],
    ]
    assert token_ids(Letters(), ["ab"], add_special_tokens=False) == [codes("ab")]


def test_a_tokenizer_without_control_tokens_reads_a_text_in_one_piece():
    alone = Places()
    alone.added_tokens_decoder = {}
    assert token_ids(alone, ["ab"], add_special_tokens=False) == [[ord("a"), 100 + ord("b")]]


def test_of_two_control_tokens_that_begin_alike_the_longer_is_read():
    longer = Letters()
    longer.added_tokens_decoder = {3: AddedToken("<s><e>", special=True), **Letters.added_tokens_decoder}
    assert token_ids(longer, [f"{MARK}<s><e>a{MARK}<s>b"], False) == [[3, ord("a"), BEGIN, ord("b")]]


def test_a_text_that_something_follows_has_no_end_and_one_beginning():
    """The template's own beginning, where it writes one."""
    assert encode(Letters(), ["ab", f"{MARK}<s>c", "<s>c"]) == [
        [BEGIN, *codes("ab")],
        [BEGIN, ord("c")],
        [BEGIN, *codes("<s>c")],  # in data it is text
    ]
    assert encode(Letters(), [""]) == [[BEGIN]]
    alone = Letters()
    alone.eos_token_id = BEGIN
    assert encode(alone, [f"{MARK}<s>"]) == [[BEGIN]]  # a token alone is not removed
    assert encode(Letters(), []) == []


def test_an_answer_that_is_joined_with_its_prompt_is_encoded_by_itself():
    assert encode_pairs(Letters(), ["ab"], ["cd"]) == [([BEGIN, *codes("ab")], codes("cd"))]
    assert encode_pairs(Whole(), ["ab"], ["cd"]) == [([BEGIN, 2000 + ord("b")], [2000 + ord("d")])]
    with pytest.raises(ValueError, match="shorter"):
        encode_pairs(Letters(), ["ab"], [])


def test_an_answer_has_the_tokens_that_follow_its_prompt():
    wanted = [BEGIN, ord("a"), 100 + ord("b")], [200 + ord("c"), 300 + ord("d")]
    assert encode_pairs(Places(), ["ab"], ["cd"]) == [wanted]


def test_without_texts_there_are_no_tokens():
    assert token_ids(readers.byte_level(), []) == encode_pairs(readers.byte_level(), [], []) == []


def test_what_stands_inside_a_text_has_no_special_tokens():
    assert _inside(Letters(), "ab") == codes("ab")
    assert _inside(Places(), "ab") == [100 + ord("a"), 200 + ord("b")]  # behind the first of BEFORE
    assert _inside(Whole(), "ab") == [2000 + ord("b")]
    assert _inside(Whole(), "") == []


def test_an_answer_without_a_token_is_refused():
    with pytest.raises(UserError) as caught:
        encode_pairs(Letters(), ["ab"], [""])
    message = "the answer '' gets no token of its own after its prompt: check the task's targets"
    assert str(caught.value) == message


def test_an_answer_ends_with_the_token_of_the_template_or_that_of_the_tokenizer():
    tokenizer = readers.byte_level()
    for template, token in ((Template(), "</s>"), (Template(end="<|end|>"), "<|end|>")):
        assert end_token(tokenizer, template) == tokenizer.convert_tokens_to_ids(token)
    tokenizer.eos_token = None
    assert end_token(tokenizer, Template()) is None


def test_where_tokens_begin():
    tokenizer = readers.byte_level()  # one token for each byte of a word it does not know
    starts = token_starts(tokenizer, "zq jk")
    assert starts[:2] == [0, 0]  # the token in front, and the first letter
    assert starts == [0, *sorted(starts[1:])]
    assert starts[-1] == 4
    assert len(starts) == len(token_ids(tokenizer, ["zq jk"])[0])


def test_of_two_control_tokens_that_begin_alike_the_longer_is_marked():
    tokenizer = readers.byte_level()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|end|>", "<|turn|>", "<|end|><|turn|>"]})
    text = "x<|end|>y<|turn|><|end|><|turn|>"
    assert marked(tokenizer, text) == f"x{MARK}<|end|>y{MARK}<|turn|>{MARK}<|end|><|turn|>"


def test_the_tokenizer_that_knows_marks_is_made_once_for_the_same_control_tokens():
    tokenizer = readers.byte_level()
    known = _known(tokenizer)
    assert _known(tokenizer) is known
    first, _ = known.marking(tokenizer)
    assert known.marking(tokenizer)[0] is first
    tokenizer.chat_template = "<|turn|>"
    assert _known(tokenizer) is not known
    assert _known(tokenizer).marking(tokenizer)[0] is not first


def test_a_normalizer_that_removes_marks_leaves_control_tokens_alone():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "hot": 1}, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Replace(MARK, ""), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken("<turn>", normalized=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert token_ids(tokenizer, [f"{MARK}<turn> hot <turn>"]) == [[turn, 1, 0]]


def test_a_control_token_that_merges_spell_is_read_where_it_is_marked():
    words = ["<unk>", "<", "e", ">", "<e", "<e>", "x"]
    vocabulary = {word: i for i, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocabulary, [("<", "e"), ("<e", ">")], unk_token="<unk>"))
    backend.add_special_tokens(["<e>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    reader, original = _known(tokenizer).marking(tokenizer)
    assert [original.get(i, i) for i in reader.encode(f"x{MARK}<e>x").ids] == [6, 5, 6]


def test_without_control_tokens_nothing_is_marked():
    tokenizer = Letters()
    tokenizer.added_tokens_decoder = {}
    assert marked(tokenizer, "a <b>") == "a <b>"
