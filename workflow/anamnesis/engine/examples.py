"""Training examples as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode_pairs, end_token
from anamnesis.data.prompts import Template
from anamnesis.data.shortening import shorten_inputs
from anamnesis.engine.pack import Tree, common_prefix_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """A zero-shot prompt (c, x) and its answer y^c, which ends with the end-of-text token, or that of a turn.

    The prompt has >= 1 token; the answer has none when only the prompt is used. ``prefix_length``: how many
    of the prompt's first tokens all prompts of its task share (less than all). ``new``: whether it belongs to
    the task that is being learnt.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    prefix_length: int = 0
    new: bool = True

    @property
    def branch(self) -> list[int]:
        """The last prompt token and the answer without its last token; its rows predict the whole answer."""
        return [self.prompt[-1], *self.answer[:-1]]

    def tree(self, branches: int = 1) -> Tree:
        """The prompt up to its last token, with ``branches`` copies of the branch."""
        return Tree(
            self.prompt[self.prefix_length : -1], [self.branch] * branches, self.prompt[: self.prefix_length]
        )


def build_examples(
    task: pd.DataFrame,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_input_tokens: int,
    new: bool = True,
) -> tuple[list[Example], int]:
    """The training split as examples, and how many inputs were cut so that prompts have at most
    ``max_input_tokens`` tokens (``data.shortening``).

    Raises UserError when there is nothing to train on, or when an instruction alone fills the room.
    """
    rows = task[task.split == "train"]
    if not len(rows):
        raise UserError(
            "the task has no training examples: raise data.train_examples or give the file a train split"
        )
    end = end_token(tokenizer, template)
    if end is None:
        raise UserError(
            "the tokenizer has no end-of-text token to train answers with: set eos_token in its configuration"
        )
    rows, cut = shorten_inputs(rows, tokenizer, template, max_input_tokens)
    prompts = [template.render(c, [], x) for c, x in zip(rows.instruction, rows.input, strict=True)]
    pairs = encode_pairs(tokenizer, prompts, [template.before_answer + y for y in rows.target])
    texts = [(tuple(prompt), (*answer, end)) for prompt, answer in pairs]
    return with_shared_prefix(texts, new), int(cut.sum())


def with_shared_prefix(
    texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], new: bool = True
) -> list[Example]:
    """(prompt, answer) pairs of one task as examples that know what their prompts have in common."""
    prompts = [prompt for prompt, _ in texts]
    prefix_length = min(common_prefix_length(prompts), min(map(len, prompts)) - 1)
    return [Example(prompt, answer, prefix_length, new) for prompt, answer in texts]
