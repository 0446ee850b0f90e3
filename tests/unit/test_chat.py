"""Chat templates: prompts as their tokenizer writes them, and everything that is made from prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import reference
import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.chat import template_for
from anamnesis.data.encoding import encode, encode_pairs, end_token
from anamnesis.data.shortening import shorten_inputs
from anamnesis.data.text import unmarked
from anamnesis.engine.examples import build_examples
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.estimate.lengths import by_tokenizer, lengths_of
from anamnesis.evaluation.items import build_items
from anamnesis.evaluation.records import EvaluationSet, Evaluator
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.interventions import intervention_table

SECTION = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n", "chat_template": True}
PLAIN = template_for({**SECTION, "chat_template": False}, None)
ROLES = "{% if m.role == 'user' %}[Q] {{ m.content | trim }} [A]{% else %} {{ m.content }}<end>{% endif %}"
TEMPLATES = {
    "header": "{% if messages[0].role != 'system' %}<turn>system\nBe brief.<end>\n{% endif %}"
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}",
    "bracket": "<begin>{% for m in messages %}" + ROLES + "{% endfor %}",  # writes the beginning itself
    "dated": "<turn>{{ date_string }}\n"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
    # has the line break before an answer in finished turns only
    "today": "<turn>{{ strftime_now('%d %b %Y') }}\n"
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}<stop>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
}
DAY = "26 Jul 2024"


def conversation(words, turns: list[dict], **options) -> list[int]:
    """As the tokenizer writes it on the day of all prompts."""
    text = words.chat_template.replace("strftime_now('%d %b %Y')", "date_string")
    return words.apply_chat_template(turns, chat_template=text, date_string=DAY, return_dict=False, **options)


def tokenizer(name: str | None) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, with special tokens, the first of which it puts before every plain text."""
    backend = Tokenizer.from_str(tiny_models.tokenizer().backend_tokenizer.to_str())
    backend.add_special_tokens(["<begin>", "<turn>", "<stop>"])
    begin = backend.token_to_id("<begin>")
    backend.post_processor = TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", begin)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<begin>",
        eos_token="<end>",
        extra_special_tokens=["<turn>", "<stop>"],
    )
    words.chat_template = TEMPLATES.get(name)
    return words


def task(choices: bool) -> pd.DataFrame:
    """Words to be put into their opposites, six of each split."""
    answers = ["cold", "small", "hot"]
    rows = [(split, f"{split}-{i}", f"{split} {i}", answers[i % 3]) for split in SPLITS for i in range(6)]
    frame = pd.DataFrame(rows, columns=["split", "example_id", "input", "target"])
    frame["choices"] = [answers if choices else None for _ in rows]
    frame["label"] = [answers.index(t) if choices else None for t in frame.target]
    knowledge = {"knowledge_prompt": None, "knowledge_target": None, "knowledge_choices": None}
    return frame.assign(instruction="Say the opposite.", **knowledge)


SPLITS = ("train", "validation", "test")
SHOTS = [("hot", "cold"), ("big", "small")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_of_the_tokenizer(name):
    """Token by token, with one beginning of text, up to what stands before the answer; and with an answer."""
    words = tokenizer(name)
    template = template_for(SECTION, words)
    text = template.render("Say the opposite.", SHOTS, "up")
    turn = {"role": "user", "content": PLAIN.render("Say the opposite.", SHOTS, "up")}
    asked = conversation(words, [turn], add_generation_prompt=True)
    if name == "today":
        asked += words("\n", add_special_tokens=False).input_ids
    assert encode(words, [text]) == [asked]
    ((prompt, answer),) = encode_pairs(words, [text], [template.before_answer + "down"])
    whole = conversation(words, [turn, {"role": "assistant", "content": "down"}])
    assert prompt == asked
    assert [*prompt, *answer] == whole[: len(prompt) + len(answer)]
    follows = whole[len(prompt) + len(answer)]
    assert follows == (words("\n").input_ids[-1] if name == "dated" else end_token(words, template))


def test_a_blank_before_the_answer_belongs_to_the_answer():
    words = tokenizer("dated")
    expected = template_for(SECTION, words)
    words.chat_template = words.chat_template.replace("assistant:", "assistant: ")
    assert template_for(SECTION, words) == expected
    assert (expected.after[-1], expected.before_answer) == (":", " ")


def test_plain_texts_keep_what_their_tokenizer_puts_in_front():
    words = tokenizer("header")
    template = template_for(SECTION, words)
    chat, plain = encode(words, [template.render(None, [], "up"), PLAIN.render(None, [], "up")])
    assert chat[0] == words.convert_tokens_to_ids("<turn>")
    assert plain[:2] == [words.bos_token_id, words("Input", add_special_tokens=False).input_ids[0]]


def test_models_without_a_template_are_refused():
    with pytest.raises(UserError, match="chat_template is true but the model's tokenizer has no chat"):
        template_for(SECTION, tokenizer(None))
    words = tokenizer("header")
    words.chat_template = "{{ raise_exception('a system turn is required') }}"
    with pytest.raises(UserError, match=r"fails on a single user turn \(a system turn is required\)"):
        template_for(SECTION, words)
    thinks = "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"
    words.chat_template = thinks + "{% if add_generation_prompt %}assistant<think>{% endif %}"
    with pytest.raises(UserError, match=r"before an answer it writes something else"):
        template_for(SECTION, words)
    words.chat_template = thinks.replace("{{ m.content", "</think>{{ m.content")
    words.chat_template += "{% if add_generation_prompt %}assistant{% endif %}"
    with pytest.raises(UserError, match=r"it writes '</think>' into the answer"):
        template_for(SECTION, words)
    words.chat_template = "<turn>assistant"
    with pytest.raises(UserError, match=r"fails on a single user turn \(it writes the turn 0 times\)"):
        template_for(SECTION, words)
    assert template_for({**SECTION, "chat_template": False}, tokenizer(None)) == PLAIN


@pytest.mark.parametrize("name", TEMPLATES)
def test_evaluation_equals_one_forward_pass_per_option(name):
    """Zero-shot and few-shot, with the shared beginning, against the tokenizer's own conversations."""
    words, model, frame = tokenizer(name), tiny_models.shared("llama"), task(choices=True)
    template = template_for(SECTION, words)
    evaluator = Evaluator(PrefixEngine(model), words, template, 2, ["instruction"], 10**6, 0)
    table = evaluator.evaluate([EvaluationSet("opposites", "held_out", frame, 4)])
    assert len(table) == 12
    for shots, rows in table.groupby("shots"):
        plain = build_items(frame, "opposites", "instruction", shots, PLAIN, 0)
        for item, row in zip(plain, rows.itertuples(), strict=True):
            turn = {"role": "user", "content": item.prompt}
            asked = conversation(words, [turn], add_generation_prompt=True)
            asked += words("\n", add_special_tokens=False).input_ids if name == "today" else []
            for option, found in zip(item.choices, row.choice_logprobs, strict=True):
                answer = words(template.before_answer + option, add_special_tokens=False).input_ids
                expected, _ = reference.continuation(model, asked, answer)
                assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", TEMPLATES)
def test_generation_equals_one_token_at_a_time(name):
    words, model, frame = tokenizer(name), tiny_models.shared("llama"), task(choices=False)
    template, stops = template_for(SECTION, words), LineEnd(words)
    evaluator = Evaluator(PrefixEngine(model), words, template, 2, ["instruction"], 10**6, 0)
    table = evaluator.evaluate([EvaluationSet("opposites", "held_out", frame, 4)])
    assert sorted(set(table.shots)) == [0, 2]
    for shots, rows in table.groupby("shots"):
        items = build_items(frame, "opposites", "instruction", shots, template, 0)
        for item, row in zip(items, rows.itertuples(), strict=True):
            ids = reference.greedy(model, encode(words, [item.prompt])[0], 4, stops)
            assert row.prediction == stops.text(ids)
    assert (table.prediction != "").any()


def test_vectors_are_read_and_added_at_the_last_token_of_the_template():
    """Causal effects equal one pass per head there, and a vector after the last layer brings the answer."""
    words, model, frame = tokenizer("header"), tiny_models.shared("llama"), task(choices=False)
    template = template_for(SECTION, words)
    prompts = build_prompts(frame, "opposites", PromptPlan(2, 2, 2), template, seed=0)
    questions = encode_questions(words, prompts)
    last = words("assistant\n").input_ids[-1]
    assert {question.context[-1] for question in questions} == {last}
    engine, ids = PrefixEngine(model), list(prompts.prompt_id)
    mean = torch.randn(reference.head_shape(model), generator=torch.Generator().manual_seed(1))
    found = causal_effects(engine, questions, ids, mean, 10**6, "full")
    plain = reference.causal_effects(model, questions, ids, mean, "full")
    found = found.sort_values(["prompt_id", "layer", "head"], ignore_index=True)
    assert (found.p_patched - np.exp(plain.log_patched)).abs().max() < 1e-5
    (token, *_) = words("cold", add_special_tokens=False).input_ids
    theta = 100 * model.lm_head.weight[token].detach()
    cold = frame.assign(target=words.decode([token]))
    settings = {"layers": [2], "examples": 3, "shots": 2}
    table = intervention_table(engine, words, cold, "opposites", theta, template, settings, 0, 10**6)
    added = table[table.condition == "add"].set_index("split").accuracy
    assert added.to_dict() == {"validation": 1.0, "test": 1.0}


def test_training_learns_the_answer_behind_the_template():
    words = tokenizer("header")
    template = template_for(SECTION, words)
    examples, _ = build_examples(task(choices=False), words, template, 512)
    text = unmarked(template.render("Say the opposite.", [], "train 0"))
    assert words.decode(examples[0].prompt) == text
    assert words.decode(examples[0].answer) == "cold<end>"
    shared = words.decode(examples[0].prompt[: examples[0].prefix_length])
    assert shared == text[: text.index("train 0")] + "train "
    words = tokenizer("today")
    examples, _ = build_examples(task(choices=False), words, template_for(SECTION, words), 512)
    assert words.decode(examples[0].answer) == "cold<stop>"  # of the turn, not of the text


def test_long_inputs_are_cut_inside_the_turn():
    words, frame = tokenizer("header"), task(choices=False)
    template = template_for(SECTION, words)
    frame["input"] = "abc " * 60 + "the end"
    short, cut = shorten_inputs(frame, words, template, 120)
    text = template.render("Say the opposite.", [], short.input[0])
    assert cut.all()
    assert text.startswith(template.before + "Say the opposite.")
    assert text.endswith("the end\nOutput:" + template.after)
    assert 114 <= len(encode(words, [text])[0]) <= 120


def test_the_estimate_counts_the_template_too():
    words, frame = tokenizer("header"), task(choices=False)
    chat, plain = (
        lengths_of(frame, template, by_tokenizer(words)) for template in (template_for(SECTION, words), PLAIN)
    )
    around = len(encode(words, [template_for(SECTION, words).render(None, [], "")])[0])
    bare = len(encode(words, [PLAIN.render(None, [], "")])[0])
    more = chat.shared + chat.own(2) - plain.shared - plain.own(2)
    assert more == pytest.approx(around - bare, abs=2)
