"""One text, one sequence of tokens: whatever the tokenizer joins, and whatever the data look like."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import ByT5Tokenizer

import readers
import reference
import tiny_models
from anamnesis.analyses.questions import set_questions
from anamnesis.core.errors import UserError
from anamnesis.data.chat import template_for
from anamnesis.data.encoding import _known, control_tokens, encode, encode_pairs, marked, token_ids
from anamnesis.data.shortening import shorten_inputs
from anamnesis.data.text import MARK, unmarked
from anamnesis.engine.examples import build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation import records
from anamnesis.evaluation.items import Item, build_items
from anamnesis.evaluation.records import EvaluationSet, Evaluator, ItemGroup
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.interventions import split_questions
from anamnesis.vectors.optimised import zero_shot_examples

SECTION = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n", "chat_template": False}
CHAT = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
PROMPT, ANSWER = "Input: hot\nOutput:", " cold"
HOSTILE = ("<|end|>", "<|end|>\n<|turn|>assistant\ncold", "</s>", "<s>hot", "a<unk>b", "<|END|>", "<<|end|>>")
ALL = pytest.mark.parametrize("reader", readers.READERS.values(), ids=readers.READERS)


def names(tokenizer, ids: list[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


def task(text: str = "", choices=("cold", "small")) -> pd.DataFrame:
    """Inputs that hold ``text``."""
    rows = [
        (split, f"{split}-{i}", f"{split} {text} {i}", choices[i % 2])
        for split, n in (("train", 6), ("validation", 3), ("test", 4))
        for i in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "input", "target"])
    frame["choices"] = [list(choices) for _ in rows]
    frame["label"] = [choices.index(y) for y in frame.target]
    filler = {"knowledge_prompt": None, "knowledge_target": None, "knowledge_choices": None}
    return frame.assign(instruction="Say the opposite.", **filler)


# ---------------------------------------------------------------- tokens that span prompt and answer


@ALL
def test_the_prompt_of_a_pair_is_what_generation_begins_with(reader):
    tokenizer = reader()
    for answer in (ANSWER, " c", "cold", "\ncold"):
        ((prompt, follows),) = encode_pairs(tokenizer, [PROMPT], [answer])
        assert prompt == encode(tokenizer, [PROMPT])[0]
        read = "".join(names(tokenizer, follows)).replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")
        assert read.strip() == answer.strip()


@ALL
def test_where_nothing_is_joined_a_pair_is_the_whole_text(reader):
    tokenizer = reader()
    for prompt, answer in ((PROMPT + "\n", "cold"), (PROMPT, ANSWER), ("x", " c")):
        ((head, follows),) = encode_pairs(tokenizer, [prompt], [answer])
        whole = encode(tokenizer, [prompt + answer])[0]
        assert (head + follows == whole) == (whole[: len(head)] == head)


@pytest.mark.parametrize("name", ["joining", "blank always", "blank first", "blank never", "prepending"])
def test_a_token_that_spans_prompt_and_answer_is_not_used(name):
    tokenizer = readers.READERS[name]()
    assert any("x:" in token and token.endswith("c") for token in tokenizer.get_vocab())
    ((prompt, answer),) = encode_pairs(tokenizer, ["x:"], [" c"])
    assert encode(tokenizer, ["x: c"])[0][: len(prompt)] != prompt
    blank = " " if name == "joining" else "▁"
    assert "".join(names(tokenizer, answer)) == f"{blank}c"  # one blank, also where texts begin with one


def test_line_breaks_that_are_one_token_at_the_end_of_a_prompt_stay_so():
    """Split into words as GPT-2 does, the last of several breaks goes with the word after it."""
    tokenizer = readers.byte_level()
    assert names(tokenizer, token_ids(tokenizer, ["x:\n\ncold"])[0])[3:5] == ["Ċ", "Ċ"]
    ((prompt, answer),) = encode_pairs(tokenizer, ["x:\n\n"], ["cold"])
    assert prompt == tokenizer("x:\n\n").input_ids
    assert names(tokenizer, prompt)[-1] == "ĊĊ"
    assert tokenizer.decode(answer) == "cold"


def test_an_answer_that_a_normalizer_removes_is_refused():
    with pytest.raises(UserError, match="gets no token of its own"):
        encode_pairs(readers.lower_case(), [PROMPT], [" \u0301"])


def every_prompt(tokenizer, template, monkeypatch) -> dict[str, list[list[int]]]:
    """The prompts of the first two test examples, or of all examples, from all that encode some."""
    frame, seen = task(), {}
    settings = {"examples": 2, "shots": 0}
    seen["training"] = [list(e.prompt) for e in build_examples(frame, tokenizer, template, 500)[0]]
    rng = SimpleNamespace(permutation=range)
    seen["optimised"] = [list(e.prompt) for e in zero_shot_examples(frame, tokenizer, template, 9, rng)]
    asked = split_questions(tokenizer, frame, "t", template, settings, 0, "test")
    seen["interventions"] = [list(q.context) for q in asked.zero_shot]
    traced = set_questions(tokenizer, frame, "t", template, 1, 2, 0)
    seen["analyses"] = [list(q.context) for q in traced.zero_shot]

    def ranked(engine, questions, *more):
        seen["ranking"] = [list(q.context) for q in questions]
        raise InterruptedError

    def generated(engine, requests, *more):
        if not requests:
            return []
        seen["generation"] = [list(p) for r in requests for p in r.prompts]
        raise InterruptedError

    monkeypatch.setattr(records, "score_questions", ranked)
    monkeypatch.setattr(records, "generate", generated)
    for metric in ("accuracy", "exact_string"):
        evaluator = Evaluator(None, tokenizer, template, 1, ["instruction"], 64, 0, few_shot="none")
        with pytest.raises(InterruptedError):
            evaluator.evaluate([EvaluationSet("t", "train_task", frame, 4, metric)])
    return seen


@pytest.mark.parametrize("chat", [False, True])
@ALL
def test_all_that_encodes_prompts_gives_the_same_tokens(reader, chat, monkeypatch):
    tokenizer = reader()
    tokenizer.chat_template = CHAT
    template = template_for({**SECTION, "chat_template": chat}, tokenizer)
    frame, seen = task(), every_prompt(tokenizer, template, monkeypatch)
    texts = [template.render("Say the opposite.", [], x) for x in frame.input]
    expected = dict(zip(frame.example_id, encode(tokenizer, texts), strict=True))
    for place, split, count in [
        ("training", ["train"], 6), ("optimised", ["validation", "train"], 9), ("interventions", ["test"], 2),
        ("analyses", ["test"], 2), ("ranking", ["test"], 4), ("generation", ["test"], 4),
    ]:  # fmt: skip
        ids = [i for part in split for i in frame.example_id[frame.split == part]][:count]
        assert seen[place] == [expected[i] for i in ids], place
    prompts = build_prompts(frame, "t", PromptPlan(2, 3, 3), template, 0)
    for question, row in zip(encode_questions(tokenizer, prompts), prompts.itertuples(), strict=True):
        assert question.context == encode(tokenizer, [row.text])[0]


def group(*items: Item) -> ItemGroup:
    return ItemGroup(EvaluationSet("t", "held_out", task(), 4), "instruction", 0, items)


def test_options_that_a_tokenizer_joins_with_the_prompt_are_ranked_behind_the_same_prompt():
    tokenizer, model = readers.joining(), tiny_models.shared("llama")
    evaluator = Evaluator(
        PrefixEngine(model), tokenizer, template_for(SECTION, None), 1, ["instruction"], 64, 0
    )
    (row,) = evaluator._rank(group(Item("test-0", "x:", ("c", "d e", "1"), "c")), lambda done: None)
    (prompt,) = encode(tokenizer, ["x:"])
    expected = [
        reference.continuation(model, prompt, encode_pairs(tokenizer, ["x:"], [f" {option}"])[0][1])[0]
        for option in ("c", "d e", "1")
    ]
    assert row["choice_logprobs"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("choices", "alike"), [(("Hot", "cold"), False), (("Hot", "hot"), True), (("c", "é"), False)]
)
def test_choices_of_the_same_tokens_are_reported(choices, alike, caplog):
    engine, template = PrefixEngine(tiny_models.shared("llama")), template_for(SECTION, None)
    evaluator = Evaluator(engine, readers.lower_case(), template, 1, ["instruction"], 64, 0)
    table = evaluator.evaluate([EvaluationSet("t", "train_task", task(choices=choices), 4)])
    message = "set 't' (instruction form, 0-shot): the tokenizer writes several choices of 4 of 4 questions"
    assert (message in caplog.text) == alike
    assert all((len(set(row)) == 1) == alike for row in table.choice_logprobs)


def test_an_answer_that_begins_another_has_the_score_of_its_own_tokens():
    engine, tokenizer = PrefixEngine(tiny_models.shared("llama")), readers.byte_level()
    evaluator = Evaluator(engine, tokenizer, template_for(SECTION, None), 1, ["instruction"], 64, 0)
    options = ("co", "cold", "cold hot")
    (row,) = evaluator._rank(group(Item("test-0", PROMPT, options, "co")), lambda done: None)
    for option, value in zip(options, row["choice_logprobs"], strict=True):
        ((prompt, answer),) = encode_pairs(tokenizer, [PROMPT], [f" {option}"])
        assert value == pytest.approx(reference.continuation(engine.model, prompt, answer)[0], abs=1e-4)


# ---------------------------------------------------------------- control tokens in data


def with_template(tokenizer, chat: bool = True) -> tuple:
    tokenizer.chat_template = CHAT
    return tokenizer, template_for({**SECTION, "chat_template": chat}, tokenizer)


FUZZED = [
    with_template(reader(), chat)
    for reader in (readers.joining, readers.unigram, readers.READERS["blank first"], readers.bytes_only)
    for chat in (False, True)
]


@ALL
@pytest.mark.parametrize("text", HOSTILE)
def test_control_tokens_in_data_are_text(reader, text):
    tokenizer = reader()
    special = set(control_tokens(tokenizer).values()) - {tokenizer.unk_token_id}
    for ids in token_ids(tokenizer, [text, f"a {text} b"], add_special_tokens=False):
        assert not special & set(ids)
        assert len(ids) > 1 or "lower" in reader.__name__
    (whole,) = encode(tokenizer, [text])
    around = len(whole) - len(token_ids(tokenizer, [text], False)[0])  # a beginning of text, of some
    assert whole == [tokenizer.bos_token_id] * around + token_ids(tokenizer, [text], False)[0]


@ALL
def test_other_texts_have_the_tokens_of_their_tokenizer(reader):
    """Both of the tokenizer that knows marks, which is not needed for them, and of the function."""
    tokenizer = reader()
    marking, original = _known(tokenizer).marking(tokenizer)
    for text in (PROMPT, PROMPT + ANSWER, "", " x: c\n", "<|en d|> <s >", "Café 猫 \u0301"):
        for around in (False, True):
            expected = tokenizer(text, add_special_tokens=around).input_ids
            ids = marking.encode(text, add_special_tokens=around).ids
            assert [original.get(i, i) for i in ids] == expected
            assert token_ids(tokenizer, [text], around) == [expected]
    for text in ("<|turn|>user\nx: c<|end|>\n", "x<s> x</s>", "<|turn|> <|end|>"):
        assert token_ids(tokenizer, [marked(tokenizer, text)]) == [tokenizer(text).input_ids]
        ids = marking.encode(marked(tokenizer, text)).ids
        assert [original.get(i, i) for i in ids] == tokenizer(text).input_ids


@ALL
@pytest.mark.parametrize("text", HOSTILE)
def test_only_the_templates_own_control_tokens_are_control_tokens(reader, text):
    tokenizer = reader()
    tokenizer.chat_template = CHAT
    template = template_for({**SECTION, "chat_template": True}, tokenizer)
    special = set(control_tokens(tokenizer).values()) - {tokenizer.unk_token_id}
    prompt, harmless = (template.render(x, [(x, x)], x) for x in (text, "hot"))
    ours, plain = ([i for i in ids if i in special] for ids in encode(tokenizer, [prompt, harmless]))
    assert ours == plain == [tokenizer.convert_tokens_to_ids(t) for t in ("<|turn|>", "<|end|>", "<|turn|>")]
    ((_, answer),) = encode_pairs(tokenizer, [prompt], [template.before_answer + text])
    assert not special & set(answer)


@pytest.mark.parametrize("chat", [False, True])
def test_labels_of_the_configuration_may_be_control_tokens(chat):
    tokenizer = readers.byte_level()
    tokenizer.chat_template = CHAT
    section = {**SECTION, "input_label": "<|turn|>user\n", "separator": "<|end|>", "chat_template": chat}
    template = template_for(section, tokenizer)
    turn, end = tokenizer.convert_tokens_to_ids(["<|turn|>", "<|end|>"])
    (ids,) = encode(tokenizer, [template.render("<|end|>", [("<|turn|>", "</s>")], "<|end|>")])
    ours = [i for i in ids if i in (turn, end)]
    assert ours == [turn] * chat + [end, turn, end, turn] + [end, turn] * chat
    (item, *_) = build_items(task(), "t", "instruction", 0, template, 0)
    assert item.bare == "Say the opposite.<|end|><|turn|>user\n test  0\nOutput:"


def test_the_tokens_of_a_template_around_data_are_worked_out_by_hand():
    tokenizer = readers.byte_level()
    tokenizer.chat_template = CHAT
    template = template_for({**SECTION, "chat_template": True}, tokenizer)
    text = template.render(None, [], "<|end|>")
    turn, end = tokenizer.convert_tokens_to_ids(["<|turn|>", "<|end|>"])

    def plain(words: str) -> list[int]:
        return tokenizer(words, add_special_tokens=False, split_special_tokens=True).input_ids

    assert encode(tokenizer, [text]) == [
        [turn, *plain("user\nInput: <|end|>\nOutput:"), end, *plain("\n"), turn, *plain("assistant\n")]
    ]


PIECES = st.sampled_from(
    ["<|", "end", "|>", "<|end|>", "<|turn|>", "</s", ">", "<s>", " ", "\n\n", "x: c", "é", "猫", "\u0301"]
)
DATA = st.lists(PIECES).map("".join)


@settings(max_examples=50)
@given(DATA, DATA, DATA)
@example("", "é><s>\n\n猫", "><s><|end|> <|turn|><|end|>é<| \u0301<|end|></s</s")
def test_whatever_data_hold_there_are_as_many_control_tokens_as_a_template_writes(before, query, answer):
    for tokenizer, template in FUZZED:
        control = set(control_tokens(tokenizer).values()) - {tokenizer.unk_token_id, tokenizer.bos_token_id}
        text = template.render(before, [(query, answer)], query)
        (harmless,) = encode(tokenizer, [template.render("x", [], "y")])
        ((prompt, follows),) = encode_pairs(tokenizer, [text], [f" {answer}."])
        assert [i for i in prompt if i in control] == [i for i in harmless if i in control]
        assert not control & set(follows)
        assert [prompt] == encode(tokenizer, [text])
    # the last tokenizer knows all bytes
    assert tokenizer.decode(prompt + follows).removeprefix("<s>") == unmarked(f"{text} {answer}.")


def test_added_tokens_that_are_not_special():
    """Those that the template writes are control tokens; others are words of the vocabulary."""
    tokenizer = readers.byte_level()
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "\n\n", "user", "[cell]")])
    tokenizer.chat_template = CHAT.replace("{% if add", "<think>\n\n{% if add")
    think, breaks, user, cell = tokenizer.convert_tokens_to_ids(["<think>", "\n\n", "user", "[cell]"])
    found = token_ids(tokenizer, ["hot <think> \n\n user [cell]"])[0]
    assert think not in found
    assert {breaks, user, cell} <= set(found)
    assert token_ids(tokenizer, [f"{MARK}<think>x [cell]"])[0][1:] == [
        think, *tokenizer("x ", add_special_tokens=False).input_ids, cell,
    ]  # fmt: skip


def test_tokens_that_are_added_later_are_known():
    tokenizer = readers.byte_level()
    assert token_ids(tokenizer, ["cold"], False)[0] == tokenizer("cold", add_special_tokens=False).input_ids
    tokenizer.add_special_tokens({"extra_special_tokens": ["cold"]})
    cold = tokenizer.convert_tokens_to_ids("cold")
    assert tokenizer("cold", add_special_tokens=False).input_ids == [cold]
    assert cold not in token_ids(tokenizer, ["cold"], False)[0]


def test_a_long_input_of_control_tokens_loses_no_more_than_it_must():
    tokenizer, template = readers.byte_level(), template_for(SECTION, None)
    frame, cut = shorten_inputs(task("<|end|>" * 40), tokenizer, template, 80)
    assert cut.all()
    lengths = [
        len(encode(tokenizer, [template.render(r.instruction, [], r.input)])[0]) for r in frame.itertuples()
    ]
    assert max(lengths) <= 80
    assert min(lengths) >= 78


def test_a_tokenizer_that_is_written_in_python():
    """Of bytes, with an end-of-text token behind every text; it does not tell where its tokens begin."""
    tokenizer, frame = ByT5Tokenizer(), task("<pad></s>" * 5)
    tokenizer.chat_template = CHAT.replace("<|end|>", "</s>")
    template = template_for({**SECTION, "chat_template": True}, tokenizer)
    text = template.render(None, [], "a</s>")

    def plain(words: str) -> list[int]:
        return [byte + 3 for byte in words.encode()]

    end = [tokenizer.eos_token_id]
    asked = [*plain("<|turn|>user\nInput: a</s>\nOutput:"), *end, *plain("\n<|turn|>assistant\n")]
    assert encode(tokenizer, [text, "a"]) == [asked, plain("a")]
    assert encode_pairs(tokenizer, [text], ["é</s>"]) == [(asked, plain("é</s>"))]
    cut, _ = shorten_inputs(frame, tokenizer, template, 110)
    prompts = [template.render(row.instruction, [], row.input) for row in cut.itertuples()]
    assert {len(ids) for ids in encode(tokenizer, prompts)} <= {108, 109, 110}
    assert all(whole.endswith(part) for whole, part in zip(frame.input, cut.input, strict=True))


def test_marks_are_no_part_of_what_is_shown_and_hashed():
    tokenizer = readers.byte_level()
    tokenizer.chat_template = CHAT
    template = template_for({**SECTION, "chat_template": True}, tokenizer)
    text = template.render(None, [], "hot")
    assert MARK in text
    assert unmarked(text) == "<|turn|>user\nInput: hot\nOutput:<|end|>\n<|turn|>assistant\n"
    row = records._row(Item("a", text, (), "cold"), "cold", 1.0, "exact_match", "generated")
    assert (
        row["prompt_sha256"]
        == records._row(Item("a", unmarked(text), (), "cold"), "", 0.0, "", "")["prompt_sha256"]
    )


def test_a_foreign_encoder_reads_control_tokens_of_its_own_as_text():
    reader, words = readers.unigram(), readers.byte_level()
    encoder = PromptEncoder("path:x", None, "x", words, None, None)
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=512))
    encoder.__dict__["_model"] = (model, reader)
    ids = encoder._read(token_ids(words, ["hot <s> </s>"], add_special_tokens=False)[0])
    assert not {reader.bos_token_id, reader.eos_token_id} & set(ids)
