"""How many tokens the texts of a task have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.prompts import Template, answer_text
from anamnesis.engine.pack import common_prefix_length

CHARACTERS_PER_TOKEN = 4.0  # of English, where there is no tokenizer yet
Count = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Lengths:
    """Mean numbers of tokens of a task, and its numbers of examples.

    ``instruction``: before the first input; ``opening``: what all inputs begin with, their label included;
    ``question``: an input between its labels, opening included; ``closing``: what a chat template writes
    behind; ``answer``: the target; ``options``: of all options together, the first token of each left out;
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

    def own(self, shots: int) -> float:
        """A prompt with demonstrations of its own, without what all begin with."""
        return shots * (self.question + self.answer) + self.question - self.opening + self.closing


def by_characters(texts: Sequence[str]) -> list[float]:
    """Tokens of texts, guessed from their lengths."""
    return [len(text) / CHARACTERS_PER_TOKEN for text in texts]


def by_tokenizer(tokenizer) -> Count:
    return lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]] if len(texts) else []


def lengths_of(task: pd.DataFrame, template: Template, count: Count) -> Lengths:
    """``task``: the uniform frame of a task."""
    sizes = task["split"].value_counts()
    shown = task.iloc[:: max(1, len(task) // 200)]
    bare = template.plain(None, [], "")
    instruction = template.plain(str(task["instruction"].iloc[0] or ""), [], "").removesuffix(bare)
    asked = [template.plain(None, [], text) for text in shown["input"]]
    ranked = bool(task["choices"].notna().any())
    test = task[task["split"] == "test"]
    known = test[test["knowledge_prompt"].notna()]
    return Lengths(
        instruction=_mean(count([template.before + instruction])),
        opening=_mean(count([asked[0][: common_prefix_length(asked)]])),
        question=_mean(count([text + template.separator for text in asked])),
        answer=_mean(count([answer_text(text) for text in shown["target"]])),
        options=_options(shown["choices"], count) if ranked else 0.0,
        ranked=ranked,
        train=int(sizes.get("train", 0)),
        validation=int(sizes.get("validation", 0)),
        test=int(sizes.get("test", 0)),
        knowledge=(
            _mean(count(list(known["knowledge_prompt"]))),
            _mean(count([answer_text(text) for text in known["knowledge_target"]])),
            _options(known["knowledge_choices"], count),
        ),
        known=len(known),
        closing=_mean(count([template.after])),
    )


def _options(lists: pd.Series, count: Count) -> float:
    """Mean over examples of the tokens of all options but their first ones."""
    given = [list(options) for options in lists if options is not None and hasattr(options, "__len__")]
    return _mean(
        [sum(max(0.0, n - 1) for n in count([answer_text(o) for o in options])) for options in given]
    )


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if len(values) else 0.0
