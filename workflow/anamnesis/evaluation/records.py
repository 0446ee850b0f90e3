"""Evaluation of one checkpoint on any number of sets: a row per example, form and number of shots."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.core.names import GENERATED
from anamnesis.data.lengths import shorten_inputs, shorten_knowledge
from anamnesis.data.prompts import (
    Template,
    answer_text,
    draw_demonstrations,
    encode,
    encode_pairs,
    generator,
)
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.evaluation.metrics import WRITTEN, Answer, score
from anamnesis.evaluation.scorers import option_scores

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
    "scorer",
    "cut",
    "empty",
    "choice_logprobs",
    "choice_scores",
]
MANY_EMPTY = 0.1  # share of empty answers beyond which there is a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One thing to answer: a prompt, the options (empty: generate), the right answer; the input that the
    prompt asks about, and the prompt without demonstrations and chat template; whether the input was cut;
    what stands between prompt and answer.
    """

    example_id: str
    prompt: str
    choices: tuple[str, ...]
    target: str
    input: str = ""
    bare: str = ""
    cut: bool = False
    lead: str = " "


@dataclass(frozen=True)
class EvaluationSet:
    """A task to be evaluated on. ``role``: train_task or held_out; ``frame``: its examples, all splits;
    ``max_new_tokens`` bounds the generated answers of a task without choices; ``metric`` scores them: a name
    of ``metrics.METRICS`` or "accuracy", which is exact match there. A metric of that table that only one
    benchmark has (``exact_string``, ``first_character``) makes its options be written, not ranked.
    """

    name: str
    role: str
    frame: pd.DataFrame
    max_new_tokens: int
    metric: str = "accuracy"


@dataclass(frozen=True)
class Asked:
    """Items of a set in one form and number of shots, at least one, that show the same demonstrations."""

    source: EvaluationSet
    form: str
    shots: int
    items: Sequence[Item]

    @property
    def ranked(self) -> bool:
        """Whether options are ranked; otherwise the answer is generated."""
        return bool(self.items[0].choices) and (self.form == "knowledge" or self.source.metric not in WRITTEN)

    @property
    def metric(self) -> str:
        """What scores a generated answer; the knowledge form asks for the bare fact."""
        named = self.source.metric if self.form == "instruction" else "accuracy"
        return "exact_match" if named == "accuracy" else named


@dataclass(frozen=True)
class Evaluator:
    """A model ready to be evaluated. ``shots``: demonstrations of the few-shot form; ``seed`` fixes which are
    shown, and ``draws`` how many choices of them the questions of a set are shared out among; ``scorer``:
    what options are ranked by (``scorers.SCORERS``); ``max_input_tokens``: inputs that make longer zero-shot
    prompts lose their beginning, those of demonstrations too; None: none does; ``few_shot``: whether "all"
    sets are asked with demonstrations, or those held out.
    """

    engine: PrefixEngine
    tokenizer: object
    template: Template
    shots: int
    forms: Sequence[str]
    batch_tokens: int
    seed: int
    scorer: str = "sum"
    max_input_tokens: int | None = None
    draws: int = 1
    few_shot: str = "all"

    def evaluate(
        self, sets: Sequence[EvaluationSet], progress: Callable[[int], None] = lambda done: None
    ) -> pd.DataFrame:
        """All test examples of the sets in every form, zero-shot and few-shot (columns: ``COLUMNS``), in the
        order of the sets, forms, shots and examples.

        Examples with choices are answered by rank classification (log-likelihood of the choice, by the
        scorer); the others by greedy generation up to a line break behind some text, of all sets together,
        scored by the set's metric. ``empty``: nothing but blanks and line breaks was generated; where many
        answers of a set are, a warning is logged. ``progress`` gets the number of answers just found.
        """
        asked = self._asked(sets)
        places = {s.name: {name: k for k, name in enumerate(s.frame["example_id"])} for s in sets}
        written = iter(self._write([a for a in asked if not a.ranked], progress))
        frames = {}
        for a in asked:
            rows = pd.DataFrame(self._rank(a.items, progress) if a.ranked else next(written))
            rows = rows.assign(set=a.source.name, role=a.source.role, form=a.form, shots=a.shots)
            frames.setdefault((a.source.name, a.form, a.shots), []).append(rows)
        whole = [
            pd.concat(parts).sort_values(
                "example_id", key=lambda ids, at=places[name]: ids.map(at), kind="stable"
            )
            for (name, *_), parts in frames.items()
        ]
        table = pd.concat(whole or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)[COLUMNS]
        _warn_of_empty(table)
        return table

    def _asked(self, sets: Sequence[EvaluationSet]) -> list[Asked]:
        found = [
            Asked(s, form, shots, build_items(part, s.name, form, shots, self.template, self.seed, draw))
            for s in sets
            for form in self.forms
            for frame in [self._shortened(s.frame, form)]
            for shots in shots_of(s.role, self.shots, self.few_shot)
            for draw, part in enumerate(_shared_out(frame, self.draws if shots else 1))
        ]
        return [asked for asked in found if asked.items]

    def _shortened(self, frame: pd.DataFrame, form: str) -> pd.DataFrame:
        """The set with inputs that fit, and a column ``cut``."""
        if self.max_input_tokens is None:
            return frame
        if form == "knowledge":
            frame, cut = shorten_knowledge(frame, self.tokenizer, self.max_input_tokens)
        else:
            frame, cut = shorten_inputs(frame, self.tokenizer, self.template, self.max_input_tokens)
        return frame.assign(cut=cut)

    def _rank(self, items: Sequence[Item], progress) -> list[dict]:
        contexts = [item.prompt for item in items for _ in item.choices]
        pairs = iter(
            encode_pairs(self.tokenizer, contexts, [item.lead + c for item in items for c in item.choices])
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
        found = score_questions(self.engine, questions, self.batch_tokens, progress)
        options = [item.choices for item in items]
        values = option_scores(self.scorer, self.engine, questions, found, options, self.batch_tokens)
        rows = []
        for item, sums, ranked in zip(items, found, values, strict=True):
            prediction = item.choices[max(range(len(ranked)), key=ranked.__getitem__)]
            row = _row(item, prediction, float(prediction == item.target.strip()), "accuracy", self.scorer)
            rows.append(row | {"choice_logprobs": list(sums.log_probability), "choice_scores": ranked})
        return rows

    def _write(self, asked: Sequence[Asked], progress) -> list[list[dict]]:
        requests = [
            Request(encode(self.tokenizer, [item.prompt for item in a.items]), a.source.max_new_tokens)
            for a in asked
        ]
        stops = LineEnd(self.tokenizer)
        outputs = generate(self.engine, requests, stops, self.batch_tokens, progress)
        return [
            [self._scored(item, stops.whole(ids), a.metric) for item, ids in zip(a.items, out, strict=True)]
            for a, out in zip(asked, outputs, strict=True)
        ]

    def _scored(self, item: Item, text: str, metric: str) -> dict:
        answer = Answer(text, item.target, item.input, item.bare)
        row = _row(item, answer.line, score(metric, answer), metric, GENERATED)
        return row | {"choice_logprobs": None, "choice_scores": None}


def shots_of(role: str, shots: int, few_shot: str) -> tuple[int, ...]:
    """With how many demonstrations a set is asked."""
    return (0, shots) if few_shot in ("all", role) else (0,)


def _shared_out(frame: pd.DataFrame, draws: int) -> Iterator[pd.DataFrame]:
    """The frame with its share of the test examples, for each draw of demonstrations."""
    place = (frame["split"] == "test").cumsum() - 1
    for draw in range(draws):
        yield frame[(frame["split"] != "test") | (place % draws == draw)]


def _row(item: Item, prediction: str, score: float, metric: str, scorer: str) -> dict:
    return {
        "example_id": item.example_id,
        "prompt_sha256": hashlib.sha256(item.prompt.encode()).hexdigest(),
        "prediction": prediction,
        "target": item.target,
        "score": score,
        "metric": metric,
        "scorer": scorer,
        "cut": item.cut,
        "empty": not prediction,
    }


def validation_as_test(frame: pd.DataFrame) -> pd.DataFrame:
    """A task's frame with its validation examples in the place of the test examples, which are left out."""
    return frame[frame["split"] != "test"].replace({"split": {"validation": "test"}})


def empty_shares(table: pd.DataFrame) -> dict[str, float]:
    """Of evaluation records: set -> share of its generated answers that are empty."""
    generated = table[table["scorer"] == GENERATED]
    return generated.groupby("set", sort=False)["empty"].mean().astype(float).to_dict()


def _warn_of_empty(table: pd.DataFrame) -> None:
    generated = table[table["scorer"] == GENERATED]
    for (name, form, shots), rows in generated.groupby(["set", "form", "shots"], sort=False):
        if (share := rows["empty"].mean()) > MANY_EMPTY:
            log.warning(
                "set '%s' (%s form, %d-shot): %.0f %% of %d generated answers are empty: look at what the "
                "model writes, or raise evaluation.max_new_tokens",
                name,
                form,
                shots,
                100 * share,
                len(rows),
            )


def build_items(
    task: pd.DataFrame, name: str, form: str, shots: int, template: Template, seed: int, draw: int = 0
) -> list[Item]:
    """The test examples of a task in one form. All show the same demonstrations: those of a ``draw``.

    instruction: instruction, demonstrations, input. knowledge: statements only, as plain text; tasks without
    a knowledge form give an empty list.
    """
    rows = task[task.split == "test"]
    if form == "knowledge":
        rows = rows[rows.knowledge_prompt.notna()]
    if not len(rows):
        return []
    train = task[task.split == "train"]
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
            template.plain(r.instruction, [], r.input),
            cut,
            template.lead,
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
