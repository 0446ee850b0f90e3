"""What options are ranked by: four ways to turn log-probabilities into one score per option.

``sum``            log P(answer | prompt), the field's plain accuracy
``per_token``      the same divided by the answer's tokens
``per_character``  the same divided by the option's characters (``acc_norm`` of lm-evaluation-harness)
``full_sequence``  log P of prompt and answer together, divided by all their tokens (OpenCompass)

In a full sequence the first token is counted but not predicted. Equal prompts do not cancel in it, as the
divisor differs between options.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anamnesis.core.errors import unknown
from anamnesis.engine.likelihood import token_log_probabilities
from anamnesis.engine.modes import measuring
from anamnesis.engine.pack import Pack, Tree, halved_to_fit, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, Score

SCORERS = ("sum", "per_token", "per_character", "full_sequence")


def option_scores(
    scorer: str,
    engine: PrefixEngine,
    questions: Sequence[Question],
    scores: Sequence[Score],
    options: Sequence[Sequence[str]],
    batch_tokens: int,
) -> list[list[float]]:
    """The score of every option of every question, the larger the likelier.

    ``scores``: of ``score_questions`` for the same ``questions``; ``options``: their texts, without the space
    before them. Only ``full_sequence`` runs the model again, for the prompts' own log-probabilities. Raises
    UserError for an unknown ``scorer``.
    """
    if scorer not in SCORERS:
        raise unknown("scorer", scorer, SCORERS)
    sums = [list(score.log_probability) for score in scores]
    if scorer == "per_token":
        return [
            [value / len(tokens) for value, tokens in zip(values, question.continuations, strict=True)]
            for values, question in zip(sums, questions, strict=True)
        ]
    if scorer == "per_character":
        return [
            [value / len(text) for value, text in zip(values, texts, strict=True)]
            for values, texts in zip(sums, options, strict=True)
        ]
    if scorer == "full_sequence":
        contexts = context_log_probabilities(
            engine, [question.context for question in questions], batch_tokens
        )
        return [
            [
                (before + value) / (len(question.context) + len(tokens))
                for value, tokens in zip(values, question.continuations, strict=True)
            ]
            for before, values, question in zip(contexts, sums, questions, strict=True)
        ]
    return sums


@measuring
def context_log_probabilities(
    engine: PrefixEngine, contexts: Sequence[Sequence[int]], batch_tokens: int
) -> list[float]:
    """log P of each context after its first token, nats. Every context runs whole: nothing is shared."""
    totals = [0.0] * len(contexts)

    def summed(batch: list[int]) -> torch.Tensor:
        pack = Pack(tuple(Tree(contexts[i]) for i in batch))
        keep = [
            start + k
            for start, i in zip(pack.starts, batch, strict=True)
            for k in range(len(contexts[i]) - 1)
        ]
        wanted = torch.tensor([token for i in batch for token in contexts[i][1:]])
        chosen, _ = token_log_probabilities(engine, pack, keep, torch.arange(len(keep)), wanted)
        return torch.stack([part.sum() for part in chosen.split([len(contexts[i]) - 1 for i in batch])])

    # a single token is not predicted by anything: its prompt counts 0
    long = [i for i, context in enumerate(contexts) if len(context) > 1]
    batches = pack_by_size([len(contexts[i]) for i in long], batch_tokens)
    for batch, sums in halved_to_fit([[long[k] for k in batch] for batch in batches], summed):
        for i, value in zip(batch, sums.tolist(), strict=True):
            totals[i] = value
    return totals
