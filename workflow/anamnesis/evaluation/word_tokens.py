"""Words of a text in any script, for metrics that count words."""

from __future__ import annotations

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # written without blanks
_EMOJI = r"(?=[\p{Emoji_Presentation}\p{Regional_Indicator}]|\p{Extended_Pictographic}\uFE0F)\X"
_IN_UNSPACED = regex.compile(rf"[{_UNSPACED}]\p{{M}}*")
_THEIR_PUNCTUATION = regex.compile(r"(?V1)[\p{P}&&[\u3001-\u303F\uFF01-\uFF65]]")
_WORD = regex.compile(
    rf"{_EMOJI}"
    rf"|(?=[\p{{L}}\p{{M}}\p{{N}}])[{_UNSPACED}]\p{{M}}*"
    rf"|(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{Nd}}])+"
)


def words(text: str) -> list[str]:
    """The words of ``text`` in small letters, in their order.

    A word is a run of letters, marks and digits; in scripts that are written without blanks (Han, Hiragana,
    Katakana, Thai, Lao, Khmer, Myanmar) it is one character with its marks, and an emoji is a word too. All
    else separates words. Of ASCII text these are the words of the library rouge-score.
    """
    return _WORD.findall(text.lower())


def spaced(text: str) -> str:
    """The text with blanks around each character of a script that is written without blanks, and without the
    punctuation of such scripts: for tokenizers that split at blanks. Other texts stay as they are.
    """
    if not _IN_UNSPACED.search(text):
        return text
    return _IN_UNSPACED.sub(r" \g<0> ", _THEIR_PUNCTUATION.sub(" ", text))


class WordTokenizer:
    """:func:`words` in the shape that the library rouge-score takes."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
