"""Metrics of generated answers, by name: scores between 0 and 1.

Most see the first line of the answer that is not blank, without blanks around it, use the field's reference
libraries, and score texts of any script (``words``). Those named after a benchmark, ``exact_string``,
``first_character`` and ``number_after_mark`` are the definitions of single benchmarks, for comparison with
published numbers; they see the text as it was generated. docs/reference/metrics.md says how they differ.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from math import isinf

from anamnesis.core.errors import UserError, unknown
from anamnesis.data.prompts import FINAL_MARK
from anamnesis.data.text import answer_line, normal_form, without_blanks
from anamnesis.evaluation.word_tokens import WordTokenizer, spaced, words

_NUMBER = re.compile(
    r"(?:(?<![\w)])[-−])?\$?"  # no sign directly behind a digit, where it means a difference
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-−+]?\d+(?!\w)|\s*/\s*\d+)?"
)
_TOLERANCE = 1e-6  # relative: numbers are written with few digits
WRITTEN = (
    "exact_string",
    "first_character",
)  # accuracies of single benchmarks: with them options are written, not ranked
_ORDERS = range(1, 5)  # n-grams of SARI
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_LITERAL = re.compile(r"<(?:STR|NUM|CHAR)_LIT(?::(.*?))?>", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """A generated text, the reference, and the input of the question: what the benchmark asks about, and the
    whole of its prompt without demonstrations.
    """

    text: str
    target: str
    input: str = ""
    prompt: str = ""

    @property
    def line(self) -> str:
        """The first line that is not blank, without blanks around it."""
        return answer_line(self.text)


Metric = Callable[[Answer], float]


def score(name: str, answer: Answer) -> float:
    """The score of an answer by the metric ``name``, all texts in their normal form. Raises UserError for an
    unknown name.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return float(METRICS[name](Answer(*map(normal_form, astuple(answer)))))


# ---------------------------------------------------------------- equality


def exact_match(answer: Answer) -> float:
    return answer.line == without_blanks(answer.target)


def exact_string(answer: Answer) -> float:
    """Equality of the texts as they are, line breaks and all; what is empty is wrong (TRACE)."""
    return bool(answer.text) and answer.text == answer.target


def first_character(answer: Answer) -> float:
    """Whether the text begins with the reference's first character (ScienceQA in TRACE)."""
    return bool(answer.text) and answer.text[0] == answer.target[:1]


# ---------------------------------------------------------------- numbers


def number(answer: Answer) -> float:
    """Equality of numbers: the reference's last one, and the answer's final one (:func:`final_number`).

    A reference without a number, or with one beyond floats, must match exactly.
    """
    wanted = final_number(answer.target)
    if wanted is None or isinf(wanted):
        return exact_match(answer)
    given = final_number(answer.text)
    return given is not None and abs(given - wanted) <= _TOLERANCE * max(1.0, abs(wanted))


def number_after_mark(answer: Answer) -> float:
    """As ``number``, but only a number after ``####`` counts as an answer (GSM8K)."""
    _, mark, rest = answer.text.rpartition(FINAL_MARK)
    return number(Answer(rest, answer.target)) if mark else 0.0


def final_number(text: str) -> float | None:
    """The number after ``####`` or, without that mark, the last one; None when there is none.

    Thousands may have commas; a fraction counts as its quotient, and 1e5 is a hundred thousand.
    """
    numbers = [match for match in _NUMBER.findall(text.rpartition(FINAL_MARK)[2]) if re.search(r"\d", match)]
    if not numbers:
        return None
    numerator, _, denominator = re.sub(r"[,$\s]", "", numbers[-1]).replace("−", "-").partition("/")
    if denominator and not float(denominator):
        return None
    return float(numerator) / float(denominator or 1)


# ---------------------------------------------------------------- overlap with the reference


@cache
def _rouge():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=WordTokenizer())


def rouge_l(answer: Answer) -> float:
    """F1 of the longest common subsequence of words (library rouge-score, without stemming), in any script:
    the library's own words are those of the letters a to z. A reference without words must match exactly.
    """
    if not words(answer.target):
        return exact_match(answer)
    return _rouge().score(answer.target, answer.line)["rougeL"].fmeasure


def rouge_l_trace(answer: Answer) -> float:
    """F of the library rouge, with texts split at points and blanks (TRACE); what is empty counts 0."""
    from rouge import Rouge

    try:
        return Rouge(metrics=["rouge-l"]).get_scores(answer.target, answer.text)[0]["rouge-l"]["f"]
    except ValueError:  # a text without words
        return 0.0


def f1(answer: Answer) -> float:
    """F1 of the tokens of SQuAD (:func:`token_f1`)."""
    return token_f1(answer.line, answer.target)


def token_f1(text: str, *references: str) -> float:
    """The best F1, over the references, of the tokens that a text shares with one of them.

    Tokens stand between blanks, in small letters, without ASCII punctuation and the articles a, an, the; in
    scripts that are written without blanks they are the characters. If either text has none, the score is 1
    where both have none. Source: Rajpurkar et al. 2016 (arXiv 1606.05250), in the form of SQuAD 2.0's
    evaluation script.
    """
    return max(_shared_tokens(_squad_tokens(text), _squad_tokens(reference)) for reference in references)


def _shared_tokens(tokens: list[str], wanted: list[str]) -> float:
    if not tokens or not wanted:
        return float(tokens == wanted)
    right = (Counter(tokens) & Counter(wanted)).total()
    return _f1(right / len(tokens), right / len(wanted))


def _squad_tokens(text: str) -> list[str]:
    return _ARTICLES.sub(" ", spaced(text.lower()).translate(_NO_PUNCTUATION)).split()


def bleu(answer: Answer) -> float:
    """BLEU-4 of the sentence with exponential smoothing (library sacrebleu); in scripts that are written
    without blanks, of characters.
    """
    from sacrebleu import sentence_bleu

    return sentence_bleu(spaced(answer.line), [spaced(answer.target)]).score / 100


def edit_similarity(answer: Answer) -> float:
    """1 − normalised insertions and deletions (library rapidfuzz), placeholders of literals filled in."""
    return _ratio(_with_literals(answer.line), _with_literals(without_blanks(answer.target)))


def edit_similarity_trace(answer: Answer) -> float:
    """The same of the texts as they are, in whole per cent (Py150 in TRACE); what is empty counts 0."""
    if not answer.text:
        return 0.0
    return round(100 * _ratio(_with_literals(answer.text), _with_literals(answer.target))) / 100


def _ratio(one: str, other: str) -> float:
    from rapidfuzz import fuzz

    return fuzz.ratio(one, other) / 100


def _with_literals(code: str) -> str:
    """Code with its placeholders filled in: ``<NUM_LIT:5>`` is 5, ``<NUM_LIT>`` 0, other ones empty."""
    return _LITERAL.sub(lambda match: match[1] or "", code.replace("<NUM_LIT>", "0"))


# ---------------------------------------------------------------- SARI


def sari(answer: Answer) -> float:
    """SARI against the input that was to be simplified; in scripts that are written without blanks, of
    characters.
    """
    return sentence_sari(*map(spaced, (answer.input, answer.line, answer.target)))


def sari_trace(answer: Answer) -> float:
    """SARI against the whole prompt, instruction included (20Minuten in TRACE)."""
    return sentence_sari(answer.prompt, answer.text, answer.target)


def sentence_sari(source: str, output: str, *references: str) -> float:
    """SARI of a sentence: the mean, over n-grams of 1 to 4 words, of the F1 of what is kept, the F1 of what
    is added and the precision of what is deleted; 0/0 counts as 1.

    Words are those of sacrebleu's tokenizer 13a, in small letters. Source: Xu et al. 2016 (TACL 4:401–415),
    with the recall of kept n-grams in the form that the field's libraries now use. Raises UserError without a
    reference.
    """
    if not references:
        raise UserError("SARI needs at least one reference: give the target of the example")
    texts = [_words(text) for text in (source, output, *references)]
    return sum(_sari_of_order(n, *texts) for n in _ORDERS) / len(_ORDERS)


@cache
def _tokenizer():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def _words(text: str) -> list[str]:
    return _tokenizer()(text.lower()).split()


def _ngrams(words: list[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _sari_of_order(n: int, source: list[str], output: list[str], *references: list[str]) -> float:
    # counted once per reference, so that source and output weigh as much as all references together
    before = Counter({gram: count * len(references) for gram, count in _ngrams(source, n).items()})
    after = Counter({gram: count * len(references) for gram, count in _ngrams(output, n).items()})
    wanted = sum((_ngrams(reference, n) for reference in references), Counter())
    kept, to_keep = before & after, before & wanted
    good = kept & wanted
    keep = _f1(_share(sum(good[g] / kept[g] for g in good), len(kept)), _share(good.total(), to_keep.total()))
    gone = before - after
    rightly = gone - wanted
    delete = _share(sum(rightly[g] / gone[g] for g in rightly), len(gone))
    added, to_add = after.keys() - before.keys(), wanted.keys() - before.keys()
    right = len(added & to_add)
    return (keep + delete + _f1(_share(right, len(added)), _share(right, len(to_add)))) / 3


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        exact_match, number, f1, rouge_l, bleu, edit_similarity, sari,
        exact_string, first_character, number_after_mark, rouge_l_trace, edit_similarity_trace, sari_trace,
    )
}  # fmt: skip
"""Metrics of generated answers by name. Answers that are ranked, not generated, are scored by accuracy."""
