"""Inputs that are too long lose their beginning, before any prompt is made of them."""

from __future__ import annotations

import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode, token_starts
from anamnesis.data.prompts import Template
from anamnesis.data.text import PLACE


def shorten_inputs(
    task: pd.DataFrame, tokenizer, template: Template, max_tokens: int
) -> tuple[pd.DataFrame, pd.Series]:
    """(the task with shorter inputs, whether each row's has been cut).

    Every zero-shot prompt then has at most ``max_tokens`` tokens. Only the left of the input is cut, never
    the instruction before it nor the label after it. Raises UserError when an instruction alone fills the
    room.
    """
    prompts = [template.render(c, [], x) for c, x in zip(task.instruction, task.input, strict=True)]
    long = _too_long(prompts, task.index, tokenizer, max_tokens)
    task = task.copy()
    for i in long:
        row = task.loc[i]
        before, after = template.render(row.instruction, [], PLACE).split(PLACE)
        _require_room(before + after, row.example_id, tokenizer, max_tokens)
        task.at[i, "input"] = _end_that_fits(row.input, before, after, tokenizer, max_tokens)
    return task, pd.Series(task.index.isin(long), index=task.index)


def shorten_knowledge(task: pd.DataFrame, tokenizer, max_tokens: int) -> tuple[pd.DataFrame, pd.Series]:
    """As :func:`shorten_inputs` for the knowledge prompts, which have no instruction."""
    known = task.knowledge_prompt.dropna()
    long = _too_long(list(known), known.index, tokenizer, max_tokens)
    task = task.copy()
    for i in long:
        task.at[i, "knowledge_prompt"] = _end_that_fits(known[i], "", "", tokenizer, max_tokens)
    return task, pd.Series(task.index.isin(long), index=task.index)


def _too_long(prompts: list[str], index, tokenizer, max_tokens: int) -> list:
    if not prompts:
        return []
    return [i for i, ids in zip(index, encode(tokenizer, prompts), strict=True) if len(ids) > max_tokens]


def _require_room(around: str, example_id: str, tokenizer, max_tokens: int) -> None:
    (taken,) = encode(tokenizer, [around])
    if len(taken) >= max_tokens:
        raise UserError(
            f"training.max_input_tokens is {max_tokens} but the instruction of example {example_id} alone "
            f"takes {len(taken)} tokens: raise it"
        )


def _end_that_fits(text: str, before: str, after: str, tokenizer, max_tokens: int) -> str:
    """The longest end of ``text``, whole tokens of it, with which the prompt fits."""
    starts = token_starts(tokenizer, text)
    (whole,) = encode(tokenizer, [before + text + after])
    dropped = len(whole) - max_tokens
    while dropped < len(starts):
        # the next prompt may be a token longer than counted, as tokens join differently at the cut
        end = text[starts[dropped] :].lstrip()
        (ids,) = encode(tokenizer, [before + end + after])
        if len(ids) <= max_tokens:
            return end
        dropped += len(ids) - max_tokens
    return ""
