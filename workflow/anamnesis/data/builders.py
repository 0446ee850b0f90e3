"""Builders of examples: each turns the rows of one pool of a table into the examples of one kind of task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anamnesis.data.pools import Pool, Row

if TYPE_CHECKING:
    import numpy as np

LETTERS = ("A", "B", "C", "D")
LIST_LENGTH = 5

# A repeated list is drawn again at most this often, so that the search ends when the pool has no new list.
_MAX_REDRAWS = 1000

Cells = dict[str, Any]
"""An example: column -> value."""
Build = Callable[[Pool, int, "np.random.Generator"], list[Cells]]
"""``build(pool, count, rng)``: at most ``count`` examples from the rows of ``pool``."""


def _balanced(count: int, n_values: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` numbers below ``n_values`` in random order, each value equally often up to one."""
    import numpy as np

    start = rng.integers(n_values)
    return rng.permutation((np.arange(count) + start) % n_values)


def _pick(rows: Pool | list[Row], count: int, rng: np.random.Generator) -> list[Row]:
    return [rows[i] for i in rng.choice(len(rows), size=count, replace=False)]


def _distinct_lists(draw: Callable[[int], tuple[list[Row], str]], count: int) -> list[Cells]:
    """``count`` list examples without repeats; ``draw(i)`` gives the i-th list's words and its target."""
    examples: dict[str, Cells] = {}
    for i in range(count):
        for _ in range(_MAX_REDRAWS):
            words, target = draw(i)
            text = ", ".join(row["word"] for row in words)
            if text not in examples:
                examples[text] = {"input": text, "target": target}
                break
        else:
            break
    return list(examples.values())


def any_five(answer: Callable[[list[Row]], str]) -> Build:
    """Five words of the pool, whatever they are; ``answer`` gives the target of such a list."""

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        def draw(_: int) -> tuple[list[Row], str]:
            words = _pick(pool, LIST_LENGTH, rng)
            return words, answer(words)

        return _distinct_lists(draw, count)

    return build


def odd_one(column: str, wanted: str, others: str, answer: str = "word") -> Build:
    """One word whose ``column`` is ``wanted`` among words where it is ``others``; target: its column
    ``answer``.
    """

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        answers = [row for row in pool if row[column] == wanted]
        fillers = [row for row in pool if row[column] == others]
        positions = _balanced(count, LIST_LENGTH, rng)

        def draw(i: int) -> tuple[list[Row], str]:
            odd = answers[rng.integers(len(answers))]
            words = _pick(fillers, LIST_LENGTH - 1, rng)
            words.insert(positions[i], odd)
            return words, odd[answer]

        return _distinct_lists(draw, count)

    return build


def pairs(
    query: str,
    answer: str,
    statement: Callable[[Row], str] | None = None,
    wrong: Callable[[Row, Row], Sequence[str]] | None = None,
) -> Build:
    """Rows of the pool as they are: the column ``query`` asks, the column ``answer`` is the target.

    With ``statement`` the examples have a knowledge form: the statement that the answer ends, and three other
    ends, those that ``wrong(row, other)`` makes of the row and further rows of the pool.
    """

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        rows = _pick(pool, min(count, len(pool)), rng)
        examples = [{"input": row[query], "target": row[answer]} for row in rows]
        if statement is not None:
            import numpy as np

            # drawn apart, so that the examples are the same with and without a knowledge form
            known = np.random.default_rng(rng.bit_generator.seed_seq.spawn(1)[0])
            for row, example in zip(rows, examples, strict=True):
                example |= _knowledge(row, pool, answer, statement(row), wrong, known)
        return examples

    return build


def first_letters(query: str) -> Build:
    """Rows of the pool: the column ``query`` asks, its first letter is the target."""

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        rows = _pick(pool, min(count, len(pool)), rng)
        return [{"input": row[query], "target": row[query][0]} for row in rows]

    return build


def _knowledge(
    row: Row, pool: Pool, answer: str, statement: str, wrong: Callable, rng: np.random.Generator
) -> Cells:
    """The knowledge columns of a row, its answer at a random place among the options."""
    others: list[str] = []
    for i in rng.permutation(len(pool)):
        for end in wrong(row, pool[i]):
            if end not in (row[answer], *others):  # deer and deer are one option
                others.append(end)
        if len(others) >= len(LETTERS) - 1:
            break
    options = others[: len(LETTERS) - 1]
    options.insert(int(rng.integers(len(options) + 1)), row[answer])
    return {
        "knowledge_prompt": statement,
        "knowledge_target": row[answer],
        "knowledge_choices": options,
    }


def classification(column: str, classes: tuple[str, ...]) -> Build:
    """Texts with their class; the classes take turns, so they are as equally frequent as the pool allows."""

    def example(row: Row) -> Cells:
        label = classes.index(row[column])
        return {"input": row["text"], "target": row[column], "choices": list(classes), "label": label}

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        shuffled = _pick(pool, len(pool), rng)
        seen = dict.fromkeys(rng.permutation(classes).tolist(), 0)
        turns = []
        for row in shuffled:
            turns.append((seen[row[column]], list(seen).index(row[column])))
            seen[row[column]] += 1
        chosen = sorted(range(len(shuffled)), key=turns.__getitem__)[:count]
        return [example(shuffled[i]) for i in rng.permutation(chosen)]

    return build


def multiple_choice(
    question: Callable[[Row], str],
    statement: Callable[[Row], str],
    answer: str,
    wrong_columns: tuple[str, ...] = (),
) -> Build:
    """Four lettered options: the row's ``answer`` and three wrong ones.

    The wrong ones are the row's ``wrong_columns`` or, without them, the answers of other rows of the pool.
    The knowledge form has the plain ``statement`` as prompt and the option texts, in the letters' order, as
    choices.
    """

    def build(pool: Pool, count: int, rng: np.random.Generator) -> list[Cells]:
        rows = _pick(pool, min(count, len(pool)), rng)
        examples = []
        for row, position in zip(rows, _balanced(len(rows), len(LETTERS), rng).tolist(), strict=True):
            candidates = [row[column] for column in wrong_columns]
            if not candidates:
                candidates = list(dict.fromkeys(other[answer] for other in pool))
                candidates.remove(row[answer])
            options = rng.permutation(candidates)[: len(LETTERS) - 1].tolist()
            options.insert(position, row[answer])
            lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
            examples.append(
                {
                    "input": "\n".join([question(row), *lettered]),
                    "target": LETTERS[position],
                    "choices": list(LETTERS),
                    "label": position,
                    "knowledge_prompt": statement(row),
                    "knowledge_target": row[answer],
                    "knowledge_choices": options,
                }
            )
        return examples

    return build
