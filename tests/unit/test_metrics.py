"""Metrics of generated answers: published values of the usual implementations, and what is cleaned."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from anamnesis.core.errors import UserError
from anamnesis.data.catalogue import catalogue, look_up
from anamnesis.data.text import normal_form
from anamnesis.evaluation.metrics import METRICS, Answer, final_number, score, sentence_sari, token_f1
from anamnesis.evaluation.word_tokens import words

SPECIES = "About 95 species are currently accepted ."
REFERENCES = (
    "About 95 species are currently known .",
    "About 95 species are now accepted .",
    "95 species are now accepted .",
)


@pytest.mark.parametrize(
    ("output", "expected"),
    [("About 95 you now get in .", 0.2695360), ("About 95 species are now agreed .", 0.6170966)],
)
def test_sari_of_the_examples_of_its_paper(output, expected):
    """The values that tensor2tensor and evaluate give for them."""
    assert sentence_sari(SPECIES, output, *REFERENCES) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("source", "output", "references", "twelfths"),
    [
        ("a", "", [""], 12),
        ("", "a", ["a"], 12),
        ("", "", ["a"], 11),
        ("", "a", [""], 11),
        ("a", "", ["a"], 10),
        ("a b", "a", ["a", "a b"], 9.8),
    ],
)
def test_sari_counts_nothing_out_of_nothing_as_right(source, output, references, twelfths):
    assert sentence_sari(source, output, *references) == pytest.approx(twelfths / 12)


def test_sari_needs_a_reference():
    with pytest.raises(UserError, match="at least one reference"):
        sentence_sari("a", "b")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 1,234.50 dollars.", 1234.5),
        ("10 - 3 = 7", 7),
        ("5-3", 3),
        ("so it is -3.", -3),
        ("a .5 share", 0.5),
        ("3/4 of it", 0.75),
        ("1 / 0", None),
        ("It costs $5", 5),
        ("2 + 2 = 5\n#### 4", 4),
        ("1,2,3", 3),
        ("none", None),
    ],
)
def test_the_final_number_of_an_answer(text, number):
    assert final_number(text) == (None if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    ("text", "target", "metric", "expected"),
    [
        (" Paris \nand more", "Paris", "exact_match", 1),
        ("Paris\n", "Paris", "exact_string", 0),
        ("Paris", "Paris", "exact_string", 1),
        ("", "", "exact_string", 0),
        ("Because", "B", "first_character", 1),
        (" B", "B", "first_character", 0),
        ("about 18.0 eggs", "18", "number", 1),
        ("18", "16 - 3\n#### 18", "number", 1),
        ("eighteen", "18", "number", 0),
        ("all of it", "all of it", "number", 1),
        ("18", "18", "number_after_mark", 0),
        ("9 + 9\n#### 18", "18", "number_after_mark", 1),
        ("x = <NUM_LIT:5>", "x = 5", "edit_similarity", 1),
        ("x = '<STR_LIT>' <EOL>", "x = '' <EOL>", "edit_similarity", 1),
        ("abc", "abd", "edit_similarity", 2 / 3),
        ("abc", "abd", "edit_similarity_trace", 0.67),
        ("", "abd", "edit_similarity_trace", 0),
        ("the cat sat", "the cat sat", "bleu", pytest.approx(1.0, abs=1e-6)),
        ("the cat sat on", "the cat ran on", "rouge_l", 0.75),
        # f1, worked out by hand from the definition of SQuAD: 2 · shared / (tokens of both)
        ("The Cat sat.", "a cat, sat", "f1", 1),
        ("in the city of Paris", "Paris", "f1", 2 * 1 / (4 + 1)),
        ("cat cat dog", "cat dog dog", "f1", 2 * 2 / (3 + 3)),
        ("1,000 U.S. dollars", "1000 US dollars", "f1", 1),
        ("theatre", "the atre", "f1", 0),
        ("\n Denver Broncos\nand more", "Denver Broncos", "f1", 1),
        ("the", "an!", "f1", 1),
        ("", "cat", "f1", 0),
        ("the", "cat", "f1", 0),
        ("cat the", "the cat", "rouge_l", 0.5),
        ("", "the cat", "rouge_l_trace", 0),
        ("the cat sat", "the cat sat", "rouge_l_trace", pytest.approx(1.0, abs=1e-6)),
    ],
)
def test_metrics_by_name(text, target, metric, expected):
    assert score(metric, Answer(text, target)) == pytest.approx(expected)


def official_f1(prediction: str, truth: str) -> float:
    """As SQuAD 2.0 evaluates it, in few lines of its own."""

    def tokens(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split()).split()

    found, wanted = tokens(prediction), tokens(truth)
    same = sum((Counter(found) & Counter(wanted)).values())
    if not found or not wanted:
        return int(found == wanted)
    precision, recall = same / len(found), same / len(wanted)
    return 0.0 if same == 0 else 2 * precision * recall / (precision + recall)


ANSWERS = st.lists(
    st.sampled_from(["the", "A", "cat", "Cat.", "dog", "don't", "-", "an", "katze", "猫"])
).map(" ".join)


@given(ANSWERS, ANSWERS)
def test_f1_is_that_of_squad(text, target):
    assert score("f1", Answer(text, target)) == pytest.approx(official_f1(text, target))


def test_f1_of_several_references_is_that_of_the_best():
    assert token_f1("Denver Broncos", "the Broncos", "Denver", "Carolina Panthers") == pytest.approx(2 / 3)
    assert token_f1("Broncos", "Denver Broncos", "the Broncos") == 1.0


def test_own_and_cleaned_sari_differ_in_the_source():
    answer = Answer("the dog", "the dog", "the big dog", "Simplify.\n\nthe big dog")
    assert score("sari", answer) == 1.0
    assert score("sari_trace", answer) == 1.0
    worse = Answer("Simplify the dog", "the dog", "the big dog", "Simplify. the big dog")
    assert score("sari_trace", worse) != score("sari", worse)


def test_scores_are_within_0_and_1_and_unknown_names_refused():
    for name in METRICS:
        for text in ("", "a", "The 3 cats.\nsat", "####", "<NUM_LIT:"):
            assert 0 <= score(name, Answer(text, "the 3 cats", "3 big cats", "say 3 big cats")) <= 1
    with pytest.raises(UserError, match="did you mean 'rouge_l'"):
        score("rouge-l", Answer("", ""))


def test_every_metric_of_the_catalogue_exists():
    named = {m for e in [*catalogue().values(), look_up("task001")] for m in (e.metric, e.own_metric)}
    assert named - {None, "accuracy"} <= set(METRICS)


# ---------------------------------------------------------------- any script

SCRIPTS = {
    "Cyrillic": "Кошка сидела на тёплом ковре",
    "Chinese": "猫坐在温暖的地毯上。",
    "Japanese": "ねこはマットの上に座った",
    "Arabic": "جلست القطة على السجادة الدافئة",
    "Hebrew": "החתול ישב על השטיח",
    "Devanagari": "बिल्ली गर्म कालीन पर बैठी",
    "Thai": "แมวนั่งบนพรมอุ่น",
    "Korean": "고양이가 따뜻한 깔개에 앉았다",
    "Greek": "Η γάτα κάθισε στο χαλί",
    "Khmer": "ឆ្មាអង្គុយលើកម្រាល",
    "emoji": "👍🏽 🇩🇪 ❤️",
    "digits": "١٢٣ ४५६",
    "Persian with joiners": "می\u200cخواهم کتاب\u200cها را بخوانم",
    "Sinhala with a joiner": "ශ්\u200dරී ලංකාව",
    "symbols": "→ ₽ ★",
    "punctuation": "?!",
    "Chinese full width": "。！",
    "decomposed": "Cafe\u0301 a\u0308rger",
    "outside the plane": "𝔘𝔫𝔦 𐍈 🜁",
}
OF_ALL = ("f1", "rouge_l", "rouge_l_trace", "exact_match", "bleu", "edit_similarity", "sari", "exact_string")


@pytest.mark.parametrize("metric", OF_ALL)
@pytest.mark.parametrize("script", SCRIPTS)
def test_identical_texts_of_any_script_score_1(script, metric):
    text = SCRIPTS[script]
    assert score(metric, Answer(text, text, "source", "source")) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("script", SCRIPTS)
def test_other_texts_of_a_script_do_not(script):
    other = {"emoji": "☕ 🎉"}.get(script, "Ω Ω")
    assert score("rouge_l", Answer(other, SCRIPTS[script])) == 0.0


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("кошка на ковре", "Кошка, на диване", 2 / 3),  # capitals and punctuation aside
        ("猫在上", "猫坐在椅上", 2 * 3 / (3 + 5)),  # character by character
        ("القطة نائمة", "القطة جائعة", 0.5),
        ("good 👍", "good 👎", 0.5),
        ("👍🏽", "👍🏿", 0.0),  # a hand and its colour are one
        ("größer", "grösser", 0.0),  # a word, not "gr" and "er"
        ("手机 iPhone", "iphone", 2 * 1 / (3 + 1)),
        ("?", "!", 0.0),
        ("!", "!", 1.0),  # no words: the texts must be equal
    ],
)
def test_rouge_l_worked_out_by_hand(text, target, expected):
    assert score("rouge_l", Answer(text, target)) == pytest.approx(expected)


def test_words_of_several_scripts():
    assert words("Don't: iPhone手机, 3 наши_дни! น้ำ 👨‍👩‍👧 x²") == [
        "don", "t", "iphone", "手", "机", "3", "наши", "дни", "น้", "ำ", "👨‍👩‍👧", "x",
    ]  # fmt: skip
    assert words(" \n…?!") == []


@given(st.text(st.characters(max_codepoint=127)), st.text(st.characters(max_codepoint=127)))
def test_rouge_l_of_ascii_texts_is_that_of_the_library(text, target):
    line = Answer(normal_form(text), target).line
    assume(words(target))  # the library has 0 for the others, also where both are equal
    expected = RougeScorer(["rougeL"]).score(target, line)["rougeL"].fmeasure
    assert score("rouge_l", Answer(text, target)) == expected


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("The cats were sitting on the mat.", "The cat sat on the mat", 8 / 13),
        ("It's 3.50 dollars - or so", "it s 3 50 dollars", 10 / 12),
        ("", "the cat", 0.0),
    ],
)
def test_english_values_are_as_before(text, target, expected):
    assert score("rouge_l", Answer(text, target)) == pytest.approx(expected)


# ---------------------------------------------------------------- scripts without blanks, one form of texts


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("猫在上", "猫坐在椅上", 2 * 3 / (3 + 5)),
        ("东京。", "东京", 1.0),  # punctuation of the script aside
        ("ねこ", "いぬ", 0.0),
        ("the 猫", "猫", 1.0),
        ("แมว", "แม", 2 * 2 / (3 + 2)),
    ],
)
def test_f1_of_scripts_without_blanks_counts_characters(text, target, expected):
    assert score("f1", Answer(text, target)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["bleu", "sari"])
def test_bleu_and_sari_see_what_two_chinese_sentences_share(metric):
    source, target = "那只大猫坐在椅子上。", "猫坐在椅子上。"
    near, far = ("猫坐在椅上。", "狗跑了。")
    scores = [score(metric, Answer(text, target, source)) for text in (target, near, far)]
    assert scores[0] == pytest.approx(1.0)
    assert scores[0] > scores[1] > scores[2]
    assert scores[1] > 0.3


def test_bleu_of_chinese_is_that_of_its_characters():
    spelt = " ".join("猫坐在椅上"), " ".join("猫坐在椅子上")
    assert score("bleu", Answer("猫坐在椅上", "猫坐在椅子上")) == score("bleu", Answer(*spelt))


LATIN = st.text(st.characters(max_codepoint=0x24F))


@given(LATIN, LATIN)
def test_texts_with_blanks_are_scored_as_the_libraries_do(text, target):
    from sacrebleu import sentence_bleu

    text, target = normal_form(text), normal_form(target)
    line = Answer(text, target).line
    assert score("bleu", Answer(text, target)) == sentence_bleu(line, [target]).score / 100
    assert score("f1", Answer(text, target)) == pytest.approx(official_f1(line, target))


@pytest.mark.parametrize("metric", METRICS)
def test_composed_and_decomposed_texts_are_equal(metric):
    composed, other = "Émile 가각 7", "E\u0301mile \u1100\u1161\u1100\u1161\u11a8 7"
    assert composed != other
    same = score(metric, Answer(composed, composed, composed, composed))
    assert same == (0 if metric == "number_after_mark" else pytest.approx(1.0, abs=1e-6))
    for text, target in ((composed, other), (other, composed), (other, other)):
        assert score(metric, Answer(text, target, target, target)) == same


@pytest.mark.parametrize("around", ["\u200f", "\ufeff", "\u200b", "\u2066", " \u200e\r\n", "\u3000"])
@pytest.mark.parametrize("metric", ["exact_match", "edit_similarity", "bleu", "f1", "rouge_l"])
def test_marks_of_direction_and_characters_without_width_around_an_answer_do_not_count(around, metric):
    assert score(metric, Answer(f"{around}نعم{around}", "نعم")) == pytest.approx(1.0)
    assert Answer(around, "نعم").line == ""


def test_joiners_at_the_end_of_a_word_belong_to_it():
    assert score("exact_match", Answer("ന്\u200d", "ന്")) == 0
    assert score("exact_match", Answer("👨\u200d👩", "👨👩")) == 0
