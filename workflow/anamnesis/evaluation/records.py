"""Evaluation of one checkpoint on any number of sets: a row per example, form and number of shots."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.core.names import GENERATED
from anamnesis.data.encoding import encode, encode_pairs
from anamnesis.data.prompts import Template
from anamnesis.data.shortening import shorten_inputs, shorten_knowledge
from anamnesis.data.text import unmarked
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.evaluation.items import Item, build_items
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
TYPES = {"choice_logprobs": "numbers", "choice_scores": "numbers"}
"""Of columns that may be without any value (``artifacts.write_parquet``)."""
MANY_EMPTY = 0.1  # share of empty answers beyond which there is a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """A task to be evaluated on. ``role``: train_task or held_out; ``frame``: its examples, all splits;
    ``max_new_tokens`` bounds the generated answers of a task without choices; ``metric`` scores them: a name
    of ``metrics.METRICS``, or "accuracy", which is exact match there. With ``exact_string`` and
    ``first_character`` options are written, not ranked.
    """

    name: str
    role: str
    frame: pd.DataFrame
    max_new_tokens: int
    metric: str = "accuracy"


@dataclass(frozen=True)
class ItemGroup:
    """Items of a set, at least one, in one form and with the same demonstrations."""

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
    """A model ready to be evaluated.

    ``shots``: demonstrations of the few-shot form, drawn with ``seed``; ``draws``: each draw of them serves
    an equal share of a set's questions; ``few_shot``: "all" sets have that form, or those with this role.
    ``scorer``: what options are ranked by (``scorers.SCORERS``). ``max_input_tokens``: inputs that make
    longer zero-shot prompts lose their beginning, those of demonstrations too; None: none does.
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
        groups = self._groups(sets)
        positions = {s.name: {name: k for k, name in enumerate(s.frame["example_id"])} for s in sets}
        # all sets at once, so that the batches of generation are full
        written = iter(self._write([group for group in groups if not group.ranked], progress))
        frames = {}
        for group in groups:
            rows = pd.DataFrame(self._rank(group, progress) if group.ranked else next(written))
            rows = rows.assign(
                set=group.source.name, role=group.source.role, form=group.form, shots=group.shots
            )
            frames.setdefault((group.source.name, group.form, group.shots), []).append(rows)
        # with several draws the examples of a set come draw by draw: back to the order of the frame
        whole = [
            pd.concat(parts).sort_values(
                "example_id", key=lambda ids, order=positions[name]: ids.map(order), kind="stable"
            )
            for (name, *_), parts in frames.items()
        ]
        table = pd.concat(whole or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)[COLUMNS]
        _warn_of_empty(table)
        return table

    def count(self, sets: Sequence[EvaluationSet]) -> int:
        """The number of answers that :meth:`evaluate` finds, at most: for a progress bar."""
        return sum(
            int((s.frame.split == "test").sum()) * len(shots_of(s.role, self.shots, self.few_shot))
            for s in sets
            for form in self.forms
            if form == "instruction" or s.frame.knowledge_prompt.notna().any()
        )

    def _groups(self, sets: Sequence[EvaluationSet]) -> list[ItemGroup]:
        groups = [
            ItemGroup(s, form, shots, build_items(part, s.name, form, shots, self.template, self.seed, draw))
            for s in sets
            for form in self.forms
            for frame in [self._shortened(s.frame, form)]
            for shots in shots_of(s.role, self.shots, self.few_shot)
            for draw, part in enumerate(_by_draw(frame, self.draws if shots else 1))
        ]
        return [group for group in groups if group.items]

    def _shortened(self, frame: pd.DataFrame, form: str) -> pd.DataFrame:
        """The set with inputs that fit, and a column ``cut``: whether an input was too long."""
        if self.max_input_tokens is None:
            return frame
        if form == "knowledge":
            frame, cut = shorten_knowledge(frame, self.tokenizer, self.max_input_tokens)
        else:
            frame, cut = shorten_inputs(frame, self.tokenizer, self.template, self.max_input_tokens)
        return frame.assign(cut=cut)

    def _rank(self, group: ItemGroup, progress) -> list[dict]:
        items = group.items
        contexts = [item.prompt for item in items for _ in item.choices]
        pairs = iter(
            encode_pairs(
                self.tokenizer, contexts, [item.before_answer + c for item in items for c in item.choices]
            )
        )
        questions = []
        for item in items:
            encoded = [next(pairs) for _ in item.choices]
            questions.append(Question(encoded[0][0], [continuation for _, continuation in encoded]))
        _warn_of_equal_options(group, questions)
        sums = score_questions(self.engine, questions, self.batch_tokens, progress)
        options = [item.choices for item in items]
        scores = option_scores(self.scorer, self.engine, questions, sums, options, self.batch_tokens)
        rows = []
        for item, logprobs, ranked in zip(items, sums, scores, strict=True):
            prediction = item.choices[max(range(len(ranked)), key=ranked.__getitem__)]
            row = _row(item, prediction, float(prediction == item.target.strip()), "accuracy", self.scorer)
            rows.append(row | {"choice_logprobs": list(logprobs.log_probability), "choice_scores": ranked})
        return rows

    def _write(self, groups: Sequence[ItemGroup], progress) -> list[list[dict]]:
        requests = [
            Request(encode(self.tokenizer, [item.prompt for item in g.items]), g.source.max_new_tokens)
            for g in groups
        ]
        stops = LineEnd(self.tokenizer)
        outputs = generate(self.engine, requests, stops, self.batch_tokens, progress)
        return [
            [self._scored(item, stops.whole(ids), g.metric) for item, ids in zip(g.items, out, strict=True)]
            for g, out in zip(groups, outputs, strict=True)
        ]

    def _scored(self, item: Item, text: str, metric: str) -> dict:
        answer = Answer(text, item.target, item.input, item.bare)
        row = _row(item, answer.line, score(metric, answer), metric, GENERATED)
        return row | {"choice_logprobs": None, "choice_scores": None}


def shots_of(role: str, shots: int, few_shot: str) -> tuple[int, ...]:
    """The numbers of demonstrations with which a set is evaluated."""
    return (0, shots) if few_shot in ("all", role) else (0,)


def _by_draw(frame: pd.DataFrame, draws: int) -> Iterator[pd.DataFrame]:
    """For each draw of demonstrations, the frame with its share of the test examples."""
    number = (frame["split"] == "test").cumsum() - 1
    for draw in range(draws):
        yield frame[(frame["split"] != "test") | (number % draws == draw)]


def _row(item: Item, prediction: str, score: float, metric: str, scorer: str) -> dict:
    return {
        "example_id": item.example_id,
        "prompt_sha256": hashlib.sha256(unmarked(item.prompt).encode()).hexdigest(),
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


def facts_of(table: pd.DataFrame) -> dict:
    """Of evaluation records: what the record of their job says."""
    return {
        "rows": len(table),
        "metrics": table.groupby("set", sort=False)["metric"].first().to_dict(),
        "inputs_cut": int(table.drop_duplicates(["set", "example_id"])["cut"].sum()),
        "empty_answers": empty_shares(table),
    }


def mean_scores_by_name(table: pd.DataFrame) -> dict[str, float]:
    """Of evaluation records: the mean score of each set, form and number of shots, as trackers get it."""
    means = table.groupby(["set", "form", "shots"], sort=False)["score"].mean()
    return {f"eval/{name}/{form}/{shots}-shot": float(value) for (name, form, shots), value in means.items()}


def empty_shares(table: pd.DataFrame) -> dict[str, float]:
    """Of evaluation records: set -> share of its generated answers that are empty."""
    generated = table[table["scorer"] == GENERATED]
    return generated.groupby("set", sort=False)["empty"].mean().astype(float).to_dict()


def _warn_of_equal_options(group: ItemGroup, questions: Sequence[Question]) -> None:
    equal = [
        item.example_id
        for item, question in zip(group.items, questions, strict=True)
        if len(set(map(tuple, question.continuations))) < len(question.continuations)
    ]
    if equal:
        log.warning(
            "set '%s' (%s form, %d-shot): the tokenizer writes several choices of %d of %d questions (the "
            "first: %s) with the same tokens: no model tells them apart, and the first of them counts",
            group.source.name,
            group.form,
            group.shots,
            len(equal),
            len(questions),
            equal[0],
        )


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
