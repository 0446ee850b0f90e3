"""Whether θ holds all that demonstrations give: zero-shot with θ against few-shot, and θ of more heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from anamnesis.analyses.checkpoints.conditions import hits
from anamnesis.analyses.checkpoints.measure import Plan, SetTrace
from anamnesis.analyses.checkpoints.vector_drift import Heads, summed
from anamnesis.analyses.questions import SetQuestions, set_questions
from anamnesis.data.prompts import Template, generator
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.vectors.interventions import intervene

NEXT = (10, 20, 50)
"""So many heads are added to S."""
DRAWS = 5
"""Random sets of as many heads, for comparison with each."""
STRIDE = 3
"""Every so many layers one is tried for the vectors of more heads."""
COLUMNS = ["condition", "more", "heads", "layer", "example", "right"]


def ranked_outside(ranking: pd.DataFrame, selected: Heads) -> list[tuple[int, int]]:
    """The heads that are not in S, the largest mean causal effect first. ``ranking``: rank, layer, head."""
    places = ranking.sort_values("rank")[["layer", "head"]].itertuples(index=False, name=None)
    return [place for place in ((int(a), int(b)) for a, b in places) if place not in set(selected)]


def sufficiency_of_sets(
    engine: PrefixEngine,
    tokenizer,
    sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    traces: Mapping[str, SetTrace],
    ranking: pd.DataFrame,
    plan: Plan,
    template: Template,
    shots: int,
    examples: int,
) -> pd.DataFrame:
    """:func:`sufficiency` of all ``sets`` (as ``stage.trace_sets`` has them) in the model before training,
    with ``set``; ``traces``: of that model.
    """
    others, parts = ranked_outside(ranking, plan.heads), []
    for name, (task, _) in sets.items():
        asked = set_questions(tokenizer, task, name, template, shots, examples, plan.seed)
        rng, initial = generator(plan.seed, name, "sufficiency"), traces[name].initial
        heads, layers = (plan.heads, others), (int(initial.layer), plan.layers[::STRIDE])
        found = sufficiency(engine, asked, initial.vectors, *heads, *layers, rng, plan.batch_tokens)
        parts.append(found.assign(set=name))
    return pd.concat(parts, ignore_index=True)


@measuring
def sufficiency(
    engine: PrefixEngine,
    questions: SetQuestions,
    vectors: torch.Tensor,
    selected: Heads,
    others: Heads,
    chosen: int,
    layers: Sequence[int],
    rng: np.random.Generator,
    batch_tokens: int,
) -> pd.DataFrame:
    """One row per condition and test example: whether greedy decoding begins with the answer.

    ``vectors``: (n_layers, n_heads, hidden_size), what each head writes on average; ``others``: the heads
    outside S, best first; ``chosen``: the layer after which θ of S is added. Returns :data:`COLUMNS`.
    ``condition``: zero-shot, few-shot, theta (zero-shot with θ of S and the ``more`` heads that follow in the
    ranking; of more heads than S it is added after that one of ``chosen`` and ``layers`` where it is best on
    the validation examples), random (θ of S and ``more`` other heads drawn at random, after the same layer;
    ``right`` is the mean over draws). ``heads``: of the vector in all. Sizes that the model has too few heads
    for are left out.
    """
    sizes = [more for more in NEXT if more <= len(others)]
    thetas = torch.stack([summed(vectors, [*selected, *others[:more]]) for more in (0, *sizes)])
    best = [chosen, *_best_layers(engine, questions.chosen_on, thetas[1:], [chosen, *layers], batch_tokens)]
    asked = questions.zero_shot
    parts = [
        _rows("zero-shot", 0, 0, -1, hits(engine, asked, batch_tokens)),
        _rows("few-shot", 0, 0, -1, hits(engine, questions.few_shot, batch_tokens)),
    ]
    for more, theta, layer in zip((0, *sizes), thetas, best, strict=True):
        drawn = [summed(vectors, [*selected, *heads]) for heads in _random(others, more, rng)]
        added = torch.stack([theta, *drawn]).expand(len(asked), -1, -1)
        changed, _ = intervene(engine, asked, added, [layer], batch_tokens)
        right = changed[:, 0].double()
        parts.append(_rows("theta", more, len(selected) + more, layer, right[0]))
        if drawn:
            parts.append(_rows("random", more, len(selected) + more, layer, right[1:].mean(0)))
    return pd.concat(parts, ignore_index=True)


def _best_layers(
    engine: PrefixEngine,
    questions: Sequence[Question],
    thetas: torch.Tensor,
    layers: Sequence[int],
    batch_tokens: int,
) -> list[int]:
    """After which layer each of ``thetas`` (n, hidden_size) is best; of equal ones the first."""
    if not len(thetas):
        return []
    layers = list(dict.fromkeys(layers))
    added, _ = intervene(engine, questions, thetas.expand(len(questions), -1, -1), layers, batch_tokens)
    return [layers[i] for i in added.double().mean(-1).numpy().argmax(-1)]


def _random(others: Heads, more: int, rng: np.random.Generator) -> Iterator[Heads]:
    if more:
        for _ in range(DRAWS):
            yield [others[i] for i in rng.choice(len(others), more, replace=False)]


def _rows(condition: str, more: int, heads: int, layer: int, right: torch.Tensor) -> pd.DataFrame:
    rows = [(condition, more, heads, layer, i, float(value)) for i, value in enumerate(right)]
    return pd.DataFrame(rows, columns=COLUMNS)
