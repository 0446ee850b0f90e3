"""Accuracy with and without instruction vectors (arXiv 2406.12227, figures 4, 5b and 7).

An answer counts as right when greedy decoding begins with the target, in every condition alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import pandas as pd
import torch

from anamnesis.analyses.checkpoints.vector_drift import Heads
from anamnesis.analyses.questions import SetQuestions
from anamnesis.analyses.states import last_tokens, packed, replaced_heads
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.modes import measuring
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_batch
from anamnesis.vectors.interventions import intervene, random_vectors

COLUMNS = ["split", "condition", "vector", "layer", "accuracy", "n"]
"""Of a table of conditions. ``vector`` is empty and ``layer`` -1 where nothing is added."""


def answered(
    engine: PrefixEngine,
    questions: Sequence[Question],
    batch_tokens: int,
    heads: Heads = (),
    outputs: torch.Tensor | None = None,
) -> float:
    """Share of questions whose target greedy decoding begins with; see :func:`hits`."""
    return float(hits(engine, questions, batch_tokens, heads, outputs).double().mean())


@measuring
def hits(
    engine: PrefixEngine,
    questions: Sequence[Question],
    batch_tokens: int,
    heads: Heads = (),
    outputs: torch.Tensor | None = None,
) -> torch.Tensor:
    """Whether greedy decoding begins with the target, (n_questions,) booleans; with ``outputs`` (n_questions,
    len(heads), head_dim) in the place of what the heads give at the last prompt token.
    """
    right = torch.zeros(len(questions), dtype=torch.bool)
    for batch, pack in packed(engine, questions, batch_tokens):
        change = nullcontext()
        if outputs is not None:
            change = replaced_heads(engine.geometry, heads, outputs[batch], last_tokens(pack))
        with change:
            scores = score_batch(engine, [questions[i] for i in batch], pack)
        right[batch] = torch.tensor([score.greedy[0] for score in scores])
    return right


@measuring
def head_outputs(
    engine: PrefixEngine, questions: Sequence[Question], heads: Heads, batch_tokens: int
) -> torch.Tensor:
    """(n_questions, len(heads), head_dim): outputs of the heads at the last token of each prompt."""
    layers, numbers = map(list, zip(*heads, strict=True))
    found = torch.zeros(len(questions), len(heads), engine.geometry.head_dim)
    for batch, pack in packed(engine, questions, batch_tokens):
        rows = last_tokens(pack)
        with captured_heads(engine.geometry, rows) as captured:
            engine.run(pack, rows[:1])
        found[batch] = torch.stack(captured)[layers, :, numbers].transpose(0, 1).float().cpu()
    return found


def layer_sweep(
    engine: PrefixEngine,
    questions: Sequence[Question],
    theta: torch.Tensor,
    layers: Sequence[int],
    batch_tokens: int,
) -> pd.DataFrame:
    """Accuracy on validation questions with θ added after each of ``layers``."""
    vectors = theta.expand(len(questions), 1, -1)
    changed, _ = intervene(engine, questions, vectors, layers, batch_tokens)
    return _rows("add", ["initial"], layers, changed, "validation")


def before_training(
    engine: PrefixEngine,
    questions: SetQuestions,
    theta: torch.Tensor,
    layer: int,
    noise: torch.Generator,
    batch_tokens: int,
) -> pd.DataFrame:
    """What only the model before training is asked: θ, or a random vector of its norm, removed from few-shot
    prompts after ``layer``, and demonstrations without the instruction.
    """
    asked = questions.few_shot
    removed = -torch.stack([theta.expand(len(asked), -1), random_vectors(theta, len(asked), noise)], 1)
    changed, _ = intervene(engine, asked, removed, [layer], batch_tokens)
    shown = answered(engine, questions.demonstrations, batch_tokens)
    rows = [("test", "demonstrations", "", -1, shown, len(questions.demonstrations))]
    removals = _rows("remove", ["initial", "random"], [layer], changed)
    return pd.concat([removals, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)


@measuring
def stage_conditions(
    engine: PrefixEngine,
    questions: SetQuestions,
    vectors: Mapping[str, torch.Tensor],
    outputs: torch.Tensor,
    heads: Heads,
    layers: Sequence[int],
    noise: torch.Generator,
    batch_tokens: int,
) -> pd.DataFrame:
    """Test accuracy zero-shot, few-shot, few-shot with the heads' ``outputs`` put back, and zero-shot with
    each of ``vectors``, or a random vector of the first one's norm, added after each of ``layers``.
    """
    asked = questions.zero_shot
    random = random_vectors(next(iter(vectors.values())), len(asked), noise)
    added = torch.stack([*(v.expand(len(asked), -1) for v in vectors.values()), random], 1)
    changed, clean = intervene(engine, asked, added, layers, batch_tokens)
    few = answered(engine, questions.few_shot, batch_tokens)
    back = answered(engine, questions.few_shot, batch_tokens, heads, outputs)
    n = len(questions.few_shot)
    rows = [
        ("test", "zero-shot", "", -1, float(clean.double().mean()), len(asked)),
        ("test", "few-shot", "", -1, few, n),
        ("test", "restored", "", -1, back, n),
    ]
    additions = _rows("add", [*vectors, "random"], layers, changed)
    return pd.concat([additions, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)


def _rows(
    condition: str,
    names: Sequence[str],
    layers: Sequence[int],
    changed: torch.Tensor,
    split: str = "test",
) -> pd.DataFrame:
    """Rows of a table of conditions. ``changed``: (len(names), len(layers), n), what was right."""
    rows = [
        (split, condition, name, layer, float(accuracy), changed.shape[-1])
        for name, of_layers in zip(names, changed.double().mean(-1), strict=True)
        for layer, accuracy in zip(layers, of_layers, strict=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
