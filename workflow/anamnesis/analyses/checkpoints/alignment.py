"""How much of an instruction vector is in the hidden states (arXiv 2406.12227, finding 1, figure 5a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from anamnesis.analyses.states import captured_residual, last_tokens, packed
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question


@measuring
def alignment(
    engine: PrefixEngine,
    questions: Sequence[Question],
    vectors: Mapping[str, torch.Tensor],
    batch_tokens: int,
) -> pd.DataFrame:
    """Cosine(h_l, θ) at the last prompt token, for each layer l and each of ``vectors`` (name ->
    (hidden_size,)).

    Returns ``vector, layer, cosine, sd, n``: mean and standard deviation (ddof=1) over the prompts, h_l being
    the residual stream after layer l.
    """
    found = torch.zeros(len(vectors), engine.geometry.n_layers, len(questions), dtype=torch.float64)
    thetas = [vector.double() for vector in vectors.values()]
    for batch, pack in packed(engine, questions, batch_tokens):
        rows = last_tokens(pack)
        with captured_residual(engine.geometry, rows) as captured:
            engine.run(pack, rows[:1])
        hidden = torch.stack(captured).double()  # (n_layers, batch, hidden_size)
        for i, theta in enumerate(thetas):
            found[i, :, batch] = cosine_similarity(hidden, theta.expand_as(hidden), dim=-1)
    return pd.DataFrame(
        [
            (name, layer, float(values.mean()), float(values.std()), len(questions))
            for name, layers in zip(vectors, found, strict=True)
            for layer, values in enumerate(layers)
        ],
        columns=["vector", "layer", "cosine", "sd", "n"],
    )
