"""Head outputs at the last prompt token, and whether the answer was right, from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anamnesis.analyses.states import last_tokens, packed
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, Score, score_batch
from anamnesis.engine.writing import captured_scales


@measuring
def scored_outputs(
    engine: PrefixEngine, questions: Sequence[Question], batch_tokens: int
) -> tuple[torch.Tensor, list[Score], torch.Tensor | None]:
    """Outputs of all heads before W_O, (n_questions, n_layers, n_heads, head_dim) float32 on the CPU, the
    scores of the questions, in their order, and the scales of norms behind W_O (n_questions, n_layers,
    hidden_size), None without such norms.
    """
    geometry, scores = engine.geometry, [None] * len(questions)
    outputs = torch.zeros(len(questions), geometry.n_layers, geometry.n_heads, geometry.head_dim)
    scales = None
    if geometry.writing.normed:
        scales = torch.zeros(len(questions), geometry.n_layers, geometry.hidden_size)
    for batch, pack in packed(engine, questions, batch_tokens):
        rows = last_tokens(pack)
        with captured_heads(geometry, rows) as captured, captured_scales(geometry.writing, rows) as scaled:
            found = score_batch(engine, [questions[i] for i in batch], pack)
        outputs[batch] = torch.stack(captured, 1).float().cpu()
        if scaled:
            scales[batch] = torch.stack(scaled, 1)
        for i, score in zip(batch, found, strict=True):
            scores[i] = score
    return outputs, scores, scales
