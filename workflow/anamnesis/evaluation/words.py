"""Words of a text in any script, for metrics that count words."""

from __future__ import annotations

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # written without blanks
_EMOJI = r"(?=[\p{Emoji_Presentation}\p{Regional_Indicator}]|\p{Extended_Pictographic}\uFE0F)\X"
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


class WordTokenizer:
    """:func:`words` in the shape that the library rouge-score takes."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
