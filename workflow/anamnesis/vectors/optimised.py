"""Instruction vectors found by gradient descent on the answers, with the model fixed.

An alternative to the sum of head outputs, which arXiv 2406.12227 leaves to future work: what a zero-shot
prompt lacks is learnt as one vector, added to the residual stream after one layer at the last prompt token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from anamnesis.core.errors import UserError
from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import Template
from anamnesis.engine.batches import shuffled_batches
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.hooks import added_to_residual
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.pack import Pack, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Optimisation:
    """``layer``: after which the vector is added; ``steps`` of Adam on ``batch_size`` examples each.

    ``learning_rate``: first step size in units of the root mean square of a vector of the largest norm; it
    falls linearly to 0.
    """

    layer: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class OptimisedVector:
    """``theta`` (hidden_size,) float32; ``before``, ``after``: nats per answer token without and with it."""

    theta: torch.Tensor
    before: float
    after: float


def chosen_layer(geometry: HeadGeometry, layer: int | None) -> int:
    """The middle layer for None. Raises UserError for a layer the model does not have."""
    if layer is None:
        return geometry.n_layers // 2
    if layer >= geometry.n_layers:
        raise UserError(
            f"vectors.optimised.layer = {layer}: the model has {geometry.n_layers} layers; give one of 0 to "
            f"{geometry.n_layers - 1}, or null"
        )
    return layer


def zero_shot_examples(
    task: pd.DataFrame,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    count: int,
    rng: np.random.Generator,
) -> list[Example]:
    """At most ``count`` examples of a task: validation rows, then training rows, each in random order.

    Test rows are never used. Raises UserError for a task that has no others.
    """
    parts = [task[task.split == split] for split in ("validation", "train")]
    rows = pd.concat([part.iloc[rng.permutation(len(part))] for part in parts]).iloc[:count]
    if not len(rows):
        raise UserError(
            "the task has neither validation nor training examples to optimise a vector on: give it some"
        )
    texts = [template.render(c, [], x) for c, x in zip(rows.instruction, rows.input, strict=True)]
    pairs = encode_pairs(tokenizer, texts, [template.before_answer + y for y in rows.target])
    return with_shared_prefix([(tuple(prompt), tuple(answer)) for prompt, answer in pairs])


def optimised_vector(
    engine: PrefixEngine,
    examples: Sequence[Example],
    plan: Optimisation,
    largest: float,
    rng: np.random.Generator,
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> OptimisedVector:
    """The vector of norm <= ``largest`` under which the answers are likeliest: projected gradient descent.

    The mean cross-entropy per answer token is minimised; the model runs in evaluation mode and is left as it
    was. ``progress`` is told of every step.
    """
    width = engine.geometry.hidden_size
    unit = largest / width**0.5
    theta = torch.zeros(width, device=engine.device, requires_grad=True)  # in units of ``unit``
    optimiser = torch.optim.Adam([theta], lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / plan.steps)
    a_pass = -(-len(examples) // plan.batch_size)
    batches = shuffled_batches(examples, -(-plan.steps // a_pass), plan.batch_size, rng)[: plan.steps]
    with _frozen(engine.model), evaluation_mode(engine.model):
        before = _loss(engine, examples, plan.layer, torch.zeros(width), batch_tokens)
        for batch in batches:
            optimiser.zero_grad()
            _loss(engine, batch.examples, plan.layer, theta, batch_tokens, unit)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                theta /= max(1.0, float(theta.norm()) / width**0.5)
            progress(1)
        found = unit * theta.detach()
        after = _loss(engine, examples, plan.layer, found, batch_tokens)
    return OptimisedVector(found.cpu(), before, after)


def _loss(
    engine: PrefixEngine,
    examples: Sequence[Example],
    layer: int,
    theta: torch.Tensor,
    batch_tokens: int,
    unit: float = 1.0,
) -> float:
    """Mean cross-entropy per answer token with ``unit * theta`` added; its gradient goes to ``theta.grad``
    if that is asked for.
    """
    total, tokens = 0.0, sum(len(e.answer) for e in examples)
    for batch in pack_by_size([e.tree().size for e in examples], batch_tokens):
        chosen = [examples[i] for i in batch]
        pack = Pack(tuple(e.tree() for e in chosen))
        last = [pack.branch_start(t, 0) for t in range(len(chosen))]
        rows = [start + k for start, e in zip(last, chosen, strict=True) for k in range(len(e.answer))]
        wanted = torch.tensor([token for e in chosen for token in e.answer], device=engine.device)
        with (
            torch.set_grad_enabled(theta.requires_grad),
            added_to_residual(engine.geometry, layer, unit * theta, last),
        ):
            loss = cross_entropy(engine.run(pack, rows).float(), wanted, reduction="sum") / tokens
        if theta.requires_grad:
            loss.backward()
        total += loss.item()
    return total


@contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    """Without gradients to any weight, so that nothing below the vector's layer is kept for them."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
