"""What is asked in an evaluation: the test examples of a task as prompts, with options and right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.prompts import Template, answer_text, draw_demonstrations, generator
from anamnesis.data.text import unmarked


@dataclass(frozen=True)
class Item:
    """One thing to answer. ``choices``: the options, none where an answer is generated; ``input``: what the
    prompt asks about; ``bare``: the prompt without demonstrations and chat template; ``cut``: whether the
    input was too long; ``before_answer``: what stands between prompt and answer.
    """

    example_id: str
    prompt: str
    choices: tuple[str, ...]
    target: str
    input: str = ""
    bare: str = ""
    cut: bool = False
    before_answer: str = " "


def build_items(
    task: pd.DataFrame, name: str, form: str, shots: int, template: Template, seed: int, draw: int = 0
) -> list[Item]:
    """The test examples of a task in one form, all with the same demonstrations: those of a ``draw``.

    instruction: instruction, demonstrations, input. knowledge: statements only, as plain text; tasks without
    a knowledge form give an empty list.
    """
    rows = task[task.split == "test"]
    if form == "knowledge":
        rows = rows[rows.knowledge_prompt.notna()]
    if not len(rows):
        return []
    train = task[task.split == "train"]
    # the first draw is not numbered: a single one is the same as before there were several
    rng = generator(seed, name, "demonstrations", shots, *([draw] if draw else []))
    make = _knowledge_items if form == "knowledge" else _instruction_items
    return make(rows, train, name, shots, template, rng)


def _knowledge_items(rows, train, name: str, shots: int, template: Template, rng) -> list[Item]:
    train = train[train.knowledge_prompt.notna()]
    pool = list(zip(train.knowledge_prompt, train.knowledge_target, strict=True))
    drawn = draw_demonstrations(rng, pool, shots, "", name)
    shown = "".join(f"{x}{answer_text(y)}{template.separator}" for x, y in drawn)
    return [
        Item(
            r.example_id,
            shown + r.knowledge_prompt,
            _options(r.knowledge_choices),
            r.knowledge_target,
            r.knowledge_prompt,
            r.knowledge_prompt,
            cut,
        )
        for r, cut in zip(rows.itertuples(), _were_cut(rows), strict=True)
    ]


def _instruction_items(rows, train, name: str, shots: int, template: Template, rng) -> list[Item]:
    shown = draw_demonstrations(rng, list(zip(train.input, train.target, strict=True)), shots, "", name)
    return [
        Item(
            r.example_id,
            template.render(r.instruction, shown, r.input),
            _options(r.choices),
            r.target,
            r.input,
            unmarked(template.plain(r.instruction, [], r.input)),
            cut,
            template.before_answer,
        )
        for r, cut in zip(rows.itertuples(), _were_cut(rows), strict=True)
    ]


def _were_cut(rows: pd.DataFrame) -> Sequence[bool]:
    return rows["cut"].tolist() if "cut" in rows else [False] * len(rows)


def _options(choices) -> tuple[str, ...]:
    return (
        tuple(choices)
        if choices is not None and hasattr(choices, "__len__") and not isinstance(choices, str)
        else ()
    )
