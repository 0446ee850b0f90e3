"""How many tokens the texts of a task have: measured, or those of a published set that is not here yet."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from anamnesis.data.encoding import token_ids
from anamnesis.data.preparation import split_sizes
from anamnesis.data.prompts import Template, answer_text

TABLE = Path(__file__).parent / "tables" / "published.csv"  # benchmarks/_published_lengths.py measures it
ENOUGH = {"train": 5000, "validation": 500, "test": 1000}
"""Examples that the table says of a set that has more: there are as many as are asked for."""
KNOWLEDGE = ("knowledge_prompt", "knowledge_answer", "knowledge_options")
MEASURED = ("instruction", "opening", "question", "answer", "options", "ranked")
CHARACTERS_PER_TOKEN = 4.0  # of English
SHOWN = 200  # examples that means are taken over, about
Count = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Lengths:
    """Mean numbers of tokens of a task, and its numbers of examples.

    ``instruction``: before the first input; ``opening``: what all inputs begin with, their label included;
    ``question``: an input between its labels, opening included; ``closing``: what a chat template writes
    after it; ``answer``: the target; ``options``: of all options together, the first token of each left out;
    ``ranked``: whether there are any. ``knowledge``: (prompt, answer, options) of the test examples that have
    that form, and ``known`` their number.
    """

    instruction: float
    opening: float
    question: float
    answer: float
    options: float
    ranked: bool
    train: int
    validation: int
    test: int
    knowledge: tuple[float, float, float] = (0.0, 0.0, 0.0)
    known: int = 0
    closing: float = 0.0

    @property
    def shared(self) -> float:
        """What all prompts begin with."""
        return self.instruction + self.opening

    @property
    def example(self) -> float:
        """A prompt and its answer."""
        return self.instruction + self.question + self.answer

    def own(self, shots: int) -> float:
        """A prompt with demonstrations of its own, without what all begin with."""
        return shots * (self.question + self.answer) + self.question - self.opening + self.closing

    @property
    def scored(self) -> float:
        """What is read to score an answer: all options, or the answer as it is generated."""
        return self.options if self.ranked else self.answer


def by_characters(texts: Sequence[str]) -> list[float]:
    """Tokens of texts, guessed from their lengths: where there is no tokenizer yet."""
    return [len(text) / CHARACTERS_PER_TOKEN for text in texts]


def by_tokenizer(tokenizer) -> Count:
    return lambda texts: [len(ids) for ids in token_ids(tokenizer, texts)]


def lengths_of(task: pd.DataFrame, template: Template, count: Count) -> Lengths:
    """``task``: the uniform frame of a task; ``count``: tokens of texts."""
    sizes = task["split"].value_counts()
    shown = task.iloc[:: max(1, len(task) // SHOWN)]
    instruction = template.plain(str(task["instruction"].iloc[0] or ""), [], "")
    instruction = instruction.removesuffix(template.plain(None, [], ""))
    asked = [template.plain(None, [], text) for text in shown["input"]]
    ranked = bool(task["choices"].notna().any())
    known = task[(task["split"] == "test") & task["knowledge_prompt"].notna()]

    def mean(texts: Sequence[str]) -> float:
        return _mean(count(list(texts)))

    return Lengths(
        instruction=mean([template.before + instruction]),
        opening=mean([os.path.commonprefix(asked)]),  # noqa: RUF071 - of texts, not of paths
        question=mean([text + template.separator for text in asked]),
        answer=mean(map(answer_text, shown["target"])),
        options=_options(shown["choices"], count) if ranked else 0.0,
        ranked=ranked,
        **{split: int(sizes.get(split, 0)) for split in ENOUGH},
        knowledge=(
            mean(known["knowledge_prompt"]),
            mean(map(answer_text, known["knowledge_target"])),
            _options(known["knowledge_choices"], count),
        ),
        known=len(known),
        closing=mean([template.after]),
    )


def _options(lists: pd.Series, count: Count) -> float:
    """Mean over examples of the tokens of all options but their first ones."""
    given = [count([answer_text(option) for option in options]) for options in lists.dropna()]
    return _mean([sum(max(0.0, tokens - 1) for tokens in counts) for counts in given])


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if len(values) else 0.0


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(TABLE, index_col="set")


def published_sets() -> frozenset[str]:
    """The sets whose lengths are known."""
    return frozenset(_table().index)


def published(name: str, data: Mapping) -> Lengths | None:
    """The lengths of a published set, None where they are not known; its sizes are those that the section
    ``data`` of the configuration asks for, or all that there are.
    """
    if name not in _table().index:
        return None
    row = _table().loc[name]
    sizes = {
        split: min(asked, int(row[split])) if row[split] < ENOUGH[split] else asked
        for split, asked in split_sizes(name, data).items()
    }
    knowledge = tuple(float(row[column]) for column in KNOWLEDGE)
    known = sizes["test"] if knowledge[0] else 0
    return Lengths(**row[[*MEASURED]].to_dict(), **sizes, knowledge=knowledge, known=known)
