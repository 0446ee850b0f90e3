"""Evaluation of one checkpoint on any number of sets: a row per example, form and number of shots."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.prompts import (
    Template,
    answer_text,
    draw_demonstrations,
    encode,
    encode_pairs,
    generator,
)
from anamnesis.errors import UserError
from anamnesis.evaluation.generation import Request, generate
from anamnesis.evaluation.scoring import Question, score_questions
from anamnesis.prefix.engine import PrefixEngine

COLUMNS = [
    "set",
    "role",
    "form",
    "shots",
    "example_id",
    "prompt_sha256",
    "prediction",
    "target",
    "score",
    "metric",
    "choice_logprobs",
]


@dataclass(frozen=True)
class Item:
    """One thing to answer: a prompt, the options (empty: generate), the right answer."""

    example_id: str
    prompt: str
    choices: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class EvaluationSet:
    """A task to be evaluated on. ``role``: train_task or held_out; ``frame``: its examples, all splits;
    ``max_new_tokens`` bounds the generated answers of a task without choices.
    """

    name: str
    role: str
    frame: pd.DataFrame
    max_new_tokens: int


@dataclass(frozen=True)
class Asked:
    """The items of a set in one form and number of shots, at least one."""

    source: EvaluationSet
    form: str
    shots: int
    items: Sequence[Item]

    @property
    def ranked(self) -> bool:
        """Whether options are ranked; otherwise the answer is generated."""
        return bool(self.items[0].choices)


@dataclass(frozen=True)
class Evaluator:
    """A model ready to be evaluated. ``shots``: demonstrations of the few-shot form; ``seed`` fixes which are
    shown.
    """

    engine: PrefixEngine
    tokenizer: object
    template: Template
    shots: int
    forms: Sequence[str]
    batch_tokens: int
    seed: int

    def evaluate(
        self, sets: Sequence[EvaluationSet], progress: Callable[[int], None] = lambda done: None
    ) -> pd.DataFrame:
        """All test examples of the sets in every form, zero-shot and few-shot (columns: ``COLUMNS``), in the
        order of the sets, forms, shots and examples.

        Examples with choices are answered by rank classification (summed log-likelihood of " " + choice,
        answer only); the others by greedy generation up to a line break, of all sets together, scored by
        exact match after stripping blanks. ``progress`` gets the number of answers just found.
        """
        asked = self._asked(sets)
        written = iter(self._write([a for a in asked if not a.ranked], progress))
        frames = [pd.DataFrame(columns=COLUMNS)] if not asked else []
        for a in asked:
            rows = pd.DataFrame(self._rank(a.items, progress) if a.ranked else next(written))
            frames.append(rows.assign(set=a.source.name, role=a.source.role, form=a.form, shots=a.shots))
        return pd.concat(frames, ignore_index=True)[COLUMNS]

    def _asked(self, sets: Sequence[EvaluationSet]) -> list[Asked]:
        found = [
            Asked(s, form, shots, build_items(s.frame, s.name, form, shots, self.template, self.seed))
            for s in sets
            for form in self.forms
            for shots in (0, self.shots)
        ]
        return [asked for asked in found if asked.items]

    def _rank(self, items: Sequence[Item], progress) -> list[dict]:
        contexts = [item.prompt for item in items for _ in item.choices]
        pairs = iter(
            encode_pairs(self.tokenizer, contexts, [answer_text(c) for item in items for c in item.choices])
        )
        questions = []
        for item in items:
            encoded = [next(pairs) for _ in item.choices]
            if any(context != encoded[0][0] for context, _ in encoded):
                raise UserError(
                    f"the tokenizer joins the prompt of {item.example_id} with some of its choices, so that "
                    "they cannot be compared: let prompts.output_label end in another character"
                )
            questions.append(Question(encoded[0][0], [continuation for _, continuation in encoded]))
        scores = score_questions(self.engine, questions, self.batch_tokens, progress)
        rows = []
        for item, score in zip(items, scores, strict=True):
            best = max(range(len(item.choices)), key=lambda i: score.log_probability[i])
            rows.append(_row(item, item.choices[best], "accuracy", list(score.log_probability)))
        return rows

    def _write(self, asked: Sequence[Asked], progress) -> list[list[dict]]:
        requests = [
            Request(encode(self.tokenizer, [item.prompt for item in a.items]), a.source.max_new_tokens)
            for a in asked
        ]
        stops = LineEnd(self.tokenizer)
        outputs = generate(self.engine, requests, stops, self.batch_tokens, progress)
        return [
            [_row(item, stops.text(ids), "exact_match", None) for item, ids in zip(a.items, out, strict=True)]
            for a, out in zip(asked, outputs, strict=True)
        ]


def _row(item: Item, prediction: str, metric: str, log_probabilities: list[float] | None) -> dict:
    return {
        "example_id": item.example_id,
        "prompt_sha256": hashlib.sha256(item.prompt.encode()).hexdigest(),
        "prediction": prediction,
        "target": item.target,
        "score": float(prediction == item.target.strip()),
        "metric": metric,
        "choice_logprobs": log_probabilities,
    }


class LineEnd:
    """Stops generation at a line break or a special token (end of text, end of turn); cuts the text there."""

    def __init__(self, tokenizer):
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.tokenizer = tokenizer
        self.ends = {*tokenizer.all_special_ids, tokenizer.eos_token_id, *special}
        self._breaks: dict[int, bool] = {}

    def __call__(self, ids: Sequence[int]) -> bool:
        last = ids[-1]
        if last not in self._breaks:
            self._breaks[last] = last in self.ends or "\n" in self.tokenizer.decode([last])
        return self._breaks[last]

    def text(self, ids: Sequence[int]) -> str:
        """The generated line, stripped."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0].strip()


def build_items(
    task: pd.DataFrame, name: str, form: str, shots: int, template: Template, seed: int
) -> list[Item]:
    """The test examples of a task in one form. Few-shot demonstrations are the same for all of a set's
    questions.

    instruction: instruction, demonstrations, input. knowledge: statements only, as plain text; tasks without
    a knowledge form give an empty list.
    """
    rows = task[task.split == "test"]
    if form == "knowledge":
        rows = rows[rows.knowledge_prompt.notna()]
    if not len(rows):
        return []
    train = task[task.split == "train"]
    rng = generator(seed, name, "demonstrations", shots)
    if form == "knowledge":
        train = train[train.knowledge_prompt.notna()]
        pool = list(zip(train.knowledge_prompt, train.knowledge_target, strict=True))
        shown = "".join(
            f"{x}{answer_text(y)}{template.separator}"
            for x, y in draw_demonstrations(rng, pool, shots, "", name)
        )
        return [
            Item(r.example_id, shown + r.knowledge_prompt, _options(r.knowledge_choices), r.knowledge_target)
            for r in rows.itertuples()
        ]
    pool = list(zip(train.input, train.target, strict=True))
    shown = draw_demonstrations(rng, pool, shots, "", name)
    return [
        Item(r.example_id, template.render(r.instruction, shown, r.input), _options(r.choices), r.target)
        for r in rows.itertuples()
    ]


def _options(choices) -> tuple[str, ...]:
    return (
        tuple(choices)
        if choices is not None and hasattr(choices, "__len__") and not isinstance(choices, str)
        else ()
    )
