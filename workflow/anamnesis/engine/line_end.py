"""Where a generated answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anamnesis.data.text import answer_line, normal_form, without_blanks_before

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LineEnd:
    """Stops generation at a special token (end of text, end of turn) or at a line break behind some text;
    cuts the text there. Blanks and line breaks before the text are skipped.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.tokenizer = tokenizer
        self.ends = {*tokenizer.all_special_ids, tokenizer.eos_token_id, *special}
        self._breaks: dict[int, bool] = {}

    def __call__(self, ids: Sequence[int]) -> bool:
        last = ids[-1]
        if last in self.ends:
            return True
        if last not in self._breaks:
            self._breaks[last] = "\n" in self._decoded([last])
        return self._breaks[last] and "\n" in without_blanks_before(self.whole(ids))

    def text(self, ids: Sequence[int]) -> str:
        """The first generated line that is not blank, stripped."""
        return answer_line(self.whole(ids))

    def whole(self, ids: Sequence[int]) -> str:
        """All that was generated, in the normal form of texts, without the space that every answer begins
        with.
        """
        return self._decoded(ids, skip_special_tokens=True).removeprefix(" ")

    def _decoded(self, ids: Sequence[int], **options: bool) -> str:
        # what some tokenizers would clean up are blanks before punctuation, which targets may have
        text = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False, **options)
        return normal_form(text)  # type: ignore[arg-type]  # a list is for several sequences
