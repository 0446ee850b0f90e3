"""Head outputs at the last prompt token, and whether the answer was right, from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anamnesis.analyses.states import last_tokens, packed
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, Score, score_batch


@measuring
def scored_outputs(
    engine: PrefixEngine, questions: Sequence[Question], batch_tokens: int
) -> tuple[torch.Tensor, list[Score]]:
    """Outputs of all heads before W_O, (n_questions, n_layers, n_heads, head_dim) float32 on the CPU, and the
    scores of the questions, in their order.
    """
    geometry, scores = engine.geometry, [None] * len(questions)
    outputs = torch.zeros(len(questions), geometry.n_layers, geometry.n_heads, geometry.head_dim)
    for batch, pack in packed(engine, questions, batch_tokens):
        with captured_heads(geometry, last_tokens(pack)) as captured:
            found = score_batch(engine, [questions[i] for i in batch], pack)
        outputs[batch] = torch.stack(captured, 1).float().cpu()
        for i, score in zip(batch, found, strict=True):
            scores[i] = score
    return outputs, scores
