"""Training examples as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.prompts import Template, answer_text, encode, encode_pairs
from anamnesis.errors import UserError
from anamnesis.prefix.pack import Tree, common_prefix_length


@dataclass(frozen=True)
class Example:
    """A zero-shot prompt (c, x) and its answer y^c, which ends with the end-of-text token.

    The prompt has >= 1 token; the answer has none when only the prompt is used. ``stem``: how many of the
    prompt's first tokens all prompts of its task share (less than all). ``new``: whether it belongs to the
    task that is being learnt.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    stem: int = 0
    new: bool = True

    @property
    def branch(self) -> list[int]:
        """The last prompt token and the answer without its last token; its rows predict the whole answer."""
        return [self.prompt[-1], *self.answer[:-1]]

    def tree(self, branches: int = 1) -> Tree:
        """The prompt up to its last token, with ``branches`` copies of the branch."""
        return Tree(self.prompt[self.stem : -1], [self.branch] * branches, self.prompt[: self.stem])


def build_examples(
    task: pd.DataFrame, tokenizer, template: Template, max_input_tokens: int, new: bool = True
) -> tuple[list[Example], int]:
    """The training split as examples, and how many prompts were cut at the left to ``max_input_tokens``.

    The input is cut, never the instruction before it nor the answer slot after it. Raises UserError when
    there is nothing to train on, or when an instruction alone fills the room.
    """
    rows = task[task.split == "train"]
    if not len(rows):
        raise UserError(
            "the task has no training examples: raise data.train_examples or give the file a train split"
        )
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            "the tokenizer has no end-of-text token to train answers with: set eos_token in its configuration"
        )
    prompts = [template.render(c, [], x) for c, x in zip(rows.instruction, rows.input, strict=True)]
    answers = [answer_text(y) for y in rows.target]
    found, cut = [], 0
    for row, (prompt, answer) in zip(
        rows.itertuples(), encode_pairs(tokenizer, prompts, answers), strict=True
    ):
        if len(prompt) > max_input_tokens:
            prompt, cut = _shorten(prompt, row, tokenizer, template, max_input_tokens), cut + 1
        found.append((tuple(prompt), (*answer, end)))
    return with_stem(found, new), cut


def with_stem(texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], new: bool = True) -> list[Example]:
    """(prompt, answer) pairs of one task as examples that know what their prompts have in common."""
    prompts = [prompt for prompt, _ in texts]
    stem = min(common_prefix_length(prompts), min(map(len, prompts)) - 1)
    return [Example(prompt, answer, stem, new) for prompt, answer in texts]


def _shorten(prompt: list[int], row, tokenizer, template: Template, room: int) -> list[int]:
    """Drop tokens from the left of the input until the prompt fits."""
    head = (
        f"{row.instruction}{template.separator}{template.input_label}"
        if row.instruction
        else template.input_label
    )
    (kept,) = encode(tokenizer, [head])
    if len(kept) >= room:
        raise UserError(
            f"training.max_input_tokens is {room} but the instruction of example {row.example_id} alone "
            f"takes "
            f"{len(kept)} tokens: raise it"
        )
    return kept + prompt[len(prompt) - (room - len(kept)) :]
