"""In-context prompts of a task: clean ones for activations, label-shuffled ones for causal effects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import (
    Template,
    draw_demonstrations,
    draw_varied_demonstrations,
    generator,
    kept_labels,
    shuffle_labels,
)
from anamnesis.engine.scoring import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLEAN, SHUFFLED = "clean", "shuffled"
TYPES = {"choices": "texts", "label": "integer"}
"""Of columns that may be without any value (``artifacts.write_parquet``)."""
MANY_KEPT = 0.5  # share of labels kept beyond which there is a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptPlan:
    """How many prompts of which kind: ``shots`` demonstrations each, with the task's instruction or
    without.
    """

    shots: int
    clean: int
    shuffled: int
    include_instruction: bool = True


def build_prompts(
    task: pd.DataFrame, name: str, plan: PromptPlan, template: Template, seed: int
) -> pd.DataFrame:
    """Prompts of a task, one row each: prompt_id, kind, text, before_answer (what stands between text
    and answer), target, choices, label, query_id, demonstration_ids, kept, unshuffled.

    Queries come from the validation split and demonstrations from the training split, drawn anew for every
    prompt. When there are fewer validation examples than prompts, queries are used again with other
    demonstrations. ``kept``: the share of its demonstrations that have their own label; ``unshuffled``: of
    kind "shuffled", but all have, as there is one label only. Both are logged where there are many.
    """
    train, queries = task[task.split == "train"], task[task.split == "validation"]
    if not len(queries):
        raise UserError(
            f"task '{name}' has no validation examples to query: add some, or raise data.validation_examples"
        )
    rows: list[dict] = []
    for kind, count in ((CLEAN, plan.clean), (SHUFFLED, plan.shuffled)):
        rng = generator(seed, name, "prompts", kind)
        order = [i for _ in range(-(-count // len(queries))) for i in rng.permutation(len(queries))][:count]
        rows += _prompts(train, queries.iloc[order], name, kind, plan, template, rng)
    prompts = pd.DataFrame(rows)
    _warn_of_kept_labels(prompts[prompts.kind == SHUFFLED] if rows else prompts, name)
    return prompts


def _warn_of_kept_labels(shuffled: pd.DataFrame, name: str) -> None:
    if not len(shuffled):
        return
    if unchanged := int(shuffled.unshuffled.sum()):
        log.warning(
            "task '%s': %d of %d label-shuffled prompts (%.0f %%) equal the clean ones, as their "
            "demonstrations have one answer; causal effects are averaged without them",
            name,
            unchanged,
            len(shuffled),
            100 * unchanged / len(shuffled),
        )
    if (kept := shuffled.kept[~shuffled.unshuffled].mean()) > MANY_KEPT:
        log.warning(
            "task '%s': %.0f %% of the demonstrations in label-shuffled prompts keep their label, as most "
            "have the same: causal effects are measured on prompts that still show the task",
            name,
            100 * kept,
        )


def _prompts(
    train: pd.DataFrame,
    queries: pd.DataFrame,
    name: str,
    kind: str,
    plan: PromptPlan,
    template: Template,
    rng: np.random.Generator,
) -> Iterator[dict]:
    """A row of one kind for each query."""
    pool = list(zip(train.input, train.target, strict=True))
    id_of = dict(zip(pool, train.example_id, strict=True))
    draw = draw_varied_demonstrations if kind == SHUFFLED else draw_demonstrations
    for number, query in enumerate(queries.itertuples()):
        shown = draw(rng, pool, plan.shots, query.input, name)
        demonstrations = shuffle_labels(rng, shown) if kind == SHUFFLED else shown
        instruction = query.instruction if plan.include_instruction else None
        yield {
            "prompt_id": f"{kind}-{number:04d}",
            "kind": kind,
            "text": template.render(instruction, demonstrations, query.input),
            "before_answer": template.before_answer,
            "target": query.target,
            "choices": query.choices,
            "label": query.label,
            "query_id": query.example_id,
            "demonstration_ids": [id_of[pair] for pair in shown],
            "kept": kept_labels(shown, demonstrations),
            "unshuffled": kind == SHUFFLED and kept_labels(shown, demonstrations) == 1,
        }


def shuffled_prompts(prompts: pd.DataFrame, name: str) -> pd.DataFrame:
    """The label-shuffled ``prompts`` of a task (:func:`build_prompts`) that differ from the clean ones: those
    that causal effects are averaged over.

    Raises UserError where all of them are unshuffled.
    """
    shuffled = prompts[prompts.kind == SHUFFLED]
    found = shuffled[~shuffled.unshuffled.astype(bool)]
    if len(shuffled) and not len(found):
        raise UserError(
            f"task '{name}': all {len(shuffled)} label-shuffled prompts equal the clean ones, as the "
            "demonstrations of each have one answer: give it training examples with two answers or more, set "
            "vectors.shots to 2 or more, or leave it out of vectors.tasks"
        )
    return found


def encode_questions(tokenizer: PreTrainedTokenizerBase, prompts: pd.DataFrame) -> list[Question]:
    """One question per prompt. Continuations: the target first, then the other choices (if the task has
    any).
    """
    answers = [
        [row.target, *(c for c in (row.choices if has_choices(row.choices) else []) if c != row.target)]
        for row in prompts.itertuples()
    ]
    asked = [
        (text, before_answer + answer)
        for text, before_answer, options in zip(prompts.text, prompts.before_answer, answers, strict=True)
        for answer in options
    ]
    pairs = iter(encode_pairs(tokenizer, [text for text, _ in asked], [answer for _, answer in asked]))
    questions = []
    for options in answers:
        encoded = [next(pairs) for _ in options]
        questions.append(Question(encoded[0][0], [continuation for _, continuation in encoded]))
    return questions


def has_choices(choices: Sequence[str] | None) -> bool:
    """Whether a ``choices`` cell (list, array or missing) holds options."""
    return (
        choices is not None
        and hasattr(choices, "__len__")
        and not isinstance(choices, str)
        and len(choices) > 0
    )
