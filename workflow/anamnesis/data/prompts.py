"""Prompts: how an instruction, demonstrations and an input become text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from anamnesis.core.errors import UserError

FINAL_MARK = "####"
"""What stands before the final answer in worked solutions of GSM8K."""
REDRAWS = 100  # so many draws of five all have one answer with probability 10^-11 where 95 % have that one


@dataclass(frozen=True)
class Template:
    """The words around inputs and answers: ``{instruction}SEP{input_label} x\\n{output_label} y SEP …``.

    ``before``, ``after``: what a chat template writes around all of that (``chat.template_for``), with its
    control tokens marked (``data.encoding``); ``before_answer``: between prompt and answer; ``end``: the
    special token behind an answer, empty for the tokenizer's end of text.
    """

    input_label: str = "Input:"
    output_label: str = "Output:"
    separator: str = "\n\n"
    before: str = ""
    after: str = ""
    before_answer: str = " "
    end: str = ""

    def render(self, instruction: str | None, demonstrations: Iterable[tuple[str, str]], query: str) -> str:
        """A prompt that ends where the answer begins. Without instruction, its paragraph is left out."""
        return self.before + self.plain(instruction, demonstrations, query) + self.after

    def plain(self, instruction: str | None, demonstrations: Iterable[tuple[str, str]], query: str) -> str:
        """The prompt without a chat template."""
        shots = [f"{self.input_label} {x}\n{self.output_label} {y}" for x, y in demonstrations]
        parts = (
            ([instruction] if instruction else [])
            + shots
            + [f"{self.input_label} {query}\n{self.output_label}"]
        )
        return self.separator.join(parts)


def answer_text(answer: str) -> str:
    """An answer as it follows a prompt without a chat template: after one space."""
    return f" {answer}"


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A random generator of its own for each (seed, purpose), so that no result depends on what else was
    drawn.
    """
    import zlib

    return np.random.default_rng([seed, *(zlib.crc32(str(p).encode()) for p in purpose)])


def draw_demonstrations(
    rng: np.random.Generator, pool: Sequence[tuple[str, str]], shots: int, avoid: str, task: str
) -> list:
    """``shots`` different pairs from ``pool``, none with the query ``avoid`` as its input.

    Raises UserError when the pool is too small.
    """
    order = [i for i in rng.permutation(len(pool)) if pool[i][0] != avoid][:shots]
    if len(order) < shots:
        raise UserError(
            f"task '{task}' has {len(pool)} examples to draw demonstrations from but shots is {shots}: "
            "lower the number of shots or give the task more training examples"
        )
    return [pool[i] for i in order]


def draw_varied_demonstrations(
    rng: np.random.Generator, pool: Sequence[tuple[str, str]], shots: int, avoid: str, task: str
) -> list:
    """As :func:`draw_demonstrations`, but with two different labels or more where the pool has them: drawn
    again until it is so, ``REDRAWS`` times at most.
    """
    possible = shots > 1 and len({label_of(y) for x, y in pool if x != avoid}) > 1
    for _ in range(1 + REDRAWS if possible else 1):
        shown = draw_demonstrations(rng, pool, shots, avoid, task)
        if len({label_of(y) for _, y in shown}) > 1:
            break
    return shown


def label_of(answer: str) -> str:
    """An answer as a label: "No", "no" and "no " are one, as changing their places changes nothing."""
    return " ".join(answer.casefold().split())


def kept_labels(shown: Sequence[tuple[str, str]], shuffled: Sequence[tuple[str, str]]) -> float:
    """The share of demonstrations with the same label in both; 1 without demonstrations."""
    pairs = zip(shown, shuffled, strict=True)
    kept = [label_of(before) == label_of(after) for (_, before), (_, after) in pairs]
    return sum(kept) / len(kept) if kept else 1.0


def shuffle_labels(
    rng: np.random.Generator, demonstrations: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The same demonstrations with their answers permuted, so that the task can no longer be read off them.

    No demonstration keeps its label, unless one label is that of more than half of them: then as few keep it
    as can be, drawn at random. With one label only, none gets another.
    """
    answers = [y for _, y in demonstrations]
    order = [int(i) for i in rng.permutation(len(answers))]
    groups: dict[str, list[int]] = {}
    for i in order:
        groups.setdefault(label_of(answers[i]), []).append(i)
    places = [i for group in groups.values() for i in group]
    # equal labels stand together: moved on by the longest group, each comes to stand in another group
    step = max(map(len, groups.values()), default=0)
    permuted = list(answers)
    for k, place in enumerate(places):
        permuted[place] = answers[places[(k + step) % len(places)]]
    return [(x, permuted[i]) for i, (x, _) in enumerate(demonstrations)]
