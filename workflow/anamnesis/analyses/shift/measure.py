"""The divergence of a trained model from the one before training, on inputs of the task just learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from anamnesis.analyses.questions import set_questions
from anamnesis.analyses.states import packed
from anamnesis.core.artifacts import read_parquet, write_parquet
from anamnesis.core.steps import listed
from anamnesis.data.chat import template_for
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.models.loading import load_model, merge_adapters

COLUMNS = ["set", "example", "prompt", "answer", "tokens"]


def measure(
    snapshot: str,
    task: str,
    adapters: Sequence[str],
    model: Mapping[str, Any],
    examples: int,
    prompts: Mapping[str, Any],
    seed: int,
    batch_tokens: int,
    table: str,
) -> dict:
    """Write ``table`` (:data:`COLUMNS`) of one stage. ``task``: that it has learnt; ``adapters``: of the
    model after it; ``examples``: at most so many test examples, the first ones, zero-shot.
    """
    language_model, tokenizer = load_model(snapshot, **model)
    name = Path(task).stem
    asked = set_questions(
        tokenizer, read_parquet(task), name, template_for(prompts, tokenizer), 0, examples, seed
    )
    before = log_probabilities(PrefixEngine(language_model), asked.zero_shot, batch_tokens)
    trained = merge_adapters(language_model, [Path(a) for a in listed(adapters)])
    after = log_probabilities(PrefixEngine(trained), asked.zero_shot, batch_tokens)
    write_parquet(table, shift_frame(before, after).assign(set=name)[COLUMNS])
    return {"examples": len(before)}


def shift_frame(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> pd.DataFrame:
    """One row per example: KL(M_0 || M_t) in nats, the sum over the vocabulary of p_0 (log p_0 − log p_t).

    ``prompt``: at the last prompt token, which predicts the first token of the answer; ``answer``: the mean
    over the positions that predict the ``tokens`` of the right answer, each after the tokens of it that come
    before, the last prompt token among them. ``before``, ``after``: of :func:`log_probabilities`.
    """
    rows = []
    for number, (first, second) in enumerate(zip(before, after, strict=True)):
        divergence = (first.exp() * (first - second)).sum(-1)
        rows.append((number, float(divergence[0]), float(divergence.mean()), len(divergence)))
    return pd.DataFrame(rows, columns=COLUMNS[1:])


@measuring
def log_probabilities(
    engine: PrefixEngine, questions: Sequence[Question], batch_tokens: int
) -> list[torch.Tensor]:
    """Of each question (answer tokens, vocabulary), float64 on the CPU: the log-probabilities of all tokens
    at the positions that predict those of its only continuation.
    """
    found: list[torch.Tensor | None] = [None] * len(questions)
    for batch, pack in packed(engine, questions, batch_tokens):
        keep, spans = [], []
        for place, number in enumerate(batch):
            start, more = len(keep), len(questions[number].continuations[0]) - 1
            keep.append(pack.trunk_end(place))
            if more:
                first = pack.branch_start(place, 0)
                keep += range(first, first + more)
            spans.append(slice(start, len(keep)))
        scores = engine.run(pack, keep).double().log_softmax(-1).cpu()
        for number, span in zip(batch, spans, strict=True):
            found[number] = scores[span]
    return found
