"""The model as it was when the stage began, or before all stages: the teacher of most terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn

from anamnesis.engine.examples import Example
from anamnesis.engine.hooks import captured_heads
from anamnesis.engine.likelihood import has_plain_head, head_input
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.pack import Pack, Tree, pack_by_size
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.scores import Scores, frozen_head, run_scores
from anamnesis.training.student import compared_rows

LARGEST_CACHE = 1 << 30
"""Bytes of hidden states kept in memory for a stage; beyond it a teacher runs in every step."""

Change = Callable[[Pack], AbstractContextManager]


class Start:
    """Weights of a model, by name, to be put back for a while: those that are trained, as they are at the
    time of the call, or other ``values``.
    """

    def __init__(self, model: nn.Module, values: Mapping[str, torch.Tensor] | None = None):
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.model = model
        self.values = values or {name: p.detach().clone() for name, p in trained.items()}

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model with these weights, in evaluation mode and without gradient."""
        parameters = dict(self.model.named_parameters())
        now = {name: parameters[name].data for name in self.values}
        try:
            for name, value in self.values.items():
                parameters[name].data = value
            with evaluation_mode(self.model), torch.no_grad():
                yield
        finally:
            for name, value in now.items():
                parameters[name].data = value


class Reference:
    """Predictions of the model with the weights ``start``, of which most are computed once.

    What it predicts for an example never changes, so the last hidden states of the stage's examples are kept
    (up to ``LARGEST_CACHE``) and only the output head runs in a step. ``change(pack)`` is a context that
    changes the first branch of every tree, such as an intervention at the last prompt token, with which that
    branch begins. Head outputs are those without it.
    """

    def __init__(
        self,
        engine: PrefixEngine,
        start: Start,
        batch_tokens: int,
        change: Change | None = None,
    ):
        self.engine, self.start, self.batch_tokens, self.change = engine, start, batch_tokens, change
        self._hidden: dict[Example, torch.Tensor] = {}
        self._prefixes: dict[tuple[int, ...], torch.Tensor] = {}
        self._heads: dict[Example, torch.Tensor] = {}

    def prepare(self, examples: Sequence[Example], logits: bool = True, heads: bool = False) -> Reference:
        """Compute what the stage will ask for, in full batches, if it may be kept. Returns itself.

        ``logits``: whether it will be asked for logits; ``heads``: for head outputs at the last prompt token,
        which are always kept.
        """
        examples = list(dict.fromkeys(examples))
        cached = logits and has_plain_head(self.engine) and self._bytes(examples) <= LARGEST_CACHE
        if not cached and not heads:
            return self
        sizes = [e.tree().size + self._apart(cached, heads) for e in examples]
        with self.start.active():
            for batch in pack_by_size(sizes, self.batch_tokens):
                self._compute([examples[i] for i in batch], cached, heads)
        return self

    def scores(self, examples: Sequence[Example], positions: str) -> Scores:
        """What is predicted at the rows of ``student.compared_rows``."""
        if any(e not in self._hidden for e in examples):
            pack = Pack(tuple(e.tree() for e in examples))
            rows, head = compared_rows(pack, examples, 0, positions), frozen_head(self.engine)
            with self.start.active(), self._changed(pack):
                return run_scores(self.engine, pack, rows, head)
        parts = [self._hidden[e] for e in examples]
        if positions == "all":
            prefixes = dict.fromkeys(e.prompt[: e.prefix_length] for e in examples if e.prefix_length)
            parts = [*(self._prefixes[prefix] for prefix in prefixes), *parts]
        elif positions == "output":
            parts = [h[-len(e.branch) :] for h, e in zip(parts, examples, strict=True)]
        else:
            parts = [h[-len(e.branch)][None] for h, e in zip(parts, examples, strict=True)]
        return Scores(torch.cat(parts).to(self.engine.device), self.engine.model.get_output_embeddings())

    def heads(self, examples: Sequence[Example]) -> torch.Tensor:
        """(n_layers, n_examples, n_heads, head_dim) outputs at the last prompt token."""
        return torch.stack([self._heads[e] for e in examples], 1).to(self.engine.device)

    def _changed(self, pack: Pack) -> AbstractContextManager:
        return nullcontext() if self.change is None else self.change(pack)

    def _apart(self, hidden: bool, heads: bool) -> int:
        """1 where the last prompt token runs once more, in a second branch without the change, or else 0."""
        return int(hidden and heads and self.change is not None)

    def _bytes(self, examples: Sequence[Example]) -> int:
        weight = self.engine.model.get_output_embeddings().weight
        return sum(e.tree().size for e in examples) * weight.shape[1] * weight.element_size()

    def _compute(self, examples: Sequence[Example], hidden: bool, heads: bool) -> None:
        apart = self._apart(hidden, heads)
        pack = Pack(tuple(_with_last(e.tree(), apart) for e in examples))
        last = [pack.branch_start(t, apart) for t in range(len(examples))]
        head = self.engine.model.get_output_embeddings()
        with (
            self._changed(pack) if hidden else nullcontext(),
            head_input(head, first_row_only=True) as seen,
            captured_heads(self.engine.geometry, last) if heads else nullcontext() as outputs,
        ):
            self.engine.run(pack, range(pack.size) if hidden else [0])
        if outputs is not None:
            self._heads |= dict(zip(examples, torch.stack(outputs, 1).cpu(), strict=True))
        if hidden:
            states = seen[0].cpu()
            self._prefixes |= {
                prefix: states[rows.start : rows.stop] for prefix, rows in pack.prefixes.items()
            }
            for t, example in enumerate(examples):
                self._hidden[example] = states[pack.starts[t] : pack.starts[t] + example.tree().size]


def _with_last(tree: Tree, times: int) -> Tree:
    """The tree with so many more branches of nothing but the last prompt token."""
    return replace(tree, branches=[*tree.branches, *[tree.branches[0][:1]] * times])
