"""In-context prompts of a task: clean ones for activations, label-shuffled ones for causal effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.data.prompts import (
    Template,
    draw_demonstrations,
    encode_pairs,
    generator,
    shuffle_labels,
)
from anamnesis.errors import UserError
from anamnesis.evaluation.scoring import Question

CLEAN, SHUFFLED = "clean", "shuffled"


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
    """Prompts of a task, one row each: prompt_id, kind, text, lead (what stands between text and answer),
    target, choices, label, query_id, demonstration_ids.

    Queries come from the validation split and demonstrations from the training split, drawn anew for every
    prompt. When there are fewer validation examples than prompts, queries are used again with other
    demonstrations.
    """
    train, queries = task[task.split == "train"], task[task.split == "validation"]
    if not len(queries):
        raise UserError(
            f"task '{name}' has no validation examples to query: add some, or raise data.validation_examples"
        )
    pool = list(zip(train.input, train.target, strict=True))
    id_of = dict(zip(pool, train.example_id, strict=True))
    rows = []
    for kind, count in ((CLEAN, plan.clean), (SHUFFLED, plan.shuffled)):
        rng = generator(seed, name, "prompts", kind)
        order = [i for _ in range(-(-count // len(queries))) for i in rng.permutation(len(queries))][:count]
        for number, i in enumerate(order):
            query = queries.iloc[i]
            shown = draw_demonstrations(rng, pool, plan.shots, query.input, name)
            demonstrations = shuffle_labels(rng, shown) if kind == SHUFFLED else shown
            text = template.render(
                query.instruction if plan.include_instruction else None, demonstrations, query.input
            )
            rows.append(
                {
                    "prompt_id": f"{kind}-{number:04d}",
                    "kind": kind,
                    "text": text,
                    "lead": template.lead,
                    "target": query.target,
                    "choices": query.choices,
                    "label": query.label,
                    "query_id": query.example_id,
                    "demonstration_ids": [id_of[pair] for pair in shown],
                }
            )
    return pd.DataFrame(rows)


def encode_questions(tokenizer, prompts: pd.DataFrame) -> list[Question]:
    """One question per prompt. Continuations: the target first, then the other choices (if the task has
    any).
    """
    answers = [
        [row.target, *(c for c in (row.choices if has_choices(row.choices) else []) if c != row.target)]
        for row in prompts.itertuples()
    ]
    asked = [
        (text, lead + answer)
        for text, lead, options in zip(prompts.text, prompts.lead, answers, strict=True)
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
