"""The model in training on one batch: one forward pass for all terms of the loss.

The answers under intervention, the plain answers, and those of a teacher that is the current model share the
prompt up to its last token. They are branches of one tree, so that the prompt runs once, with gradient. The
prefix of all prompts of a task (the instruction) runs once per batch. LoRA's dropout is therefore drawn once
for shared tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from anamnesis.core.errors import given
from anamnesis.engine.examples import Example
from anamnesis.engine.hooks import added_to_heads, captured_heads
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.scores import Scores, frozen_head, run_scores

POSITIONS = ("last_prompt", "output", "all")  # from few to many: each contains those before it
Additions = Mapping[int, torch.Tensor]  # layer -> (n_heads, head_dim)


@dataclass(frozen=True)
class PassNeeds:
    """What the terms of a loss ask of a forward pass.

    ``plain``: positions at which the logits of the new task's examples are wanted without intervention (None:
    nowhere); ``taught``: h̄ to add, at full strength, for a teacher that is the current model; ``heads``:
    whether head outputs at the last prompt token are.
    """

    plain: str | None = None
    taught: Additions | None = None
    heads: bool = False

    def __or__(self, other: PassNeeds) -> PassNeeds:
        widest = max((self.plain, other.plain), key=lambda p: -1 if p is None else POSITIONS.index(p))
        taught = other.taught if self.taught is None else self.taught
        return PassNeeds(widest, taught, self.heads or other.heads)


@dataclass
class Student:
    """A batch after its forward pass.

    ``order``: the whole batch, new examples first; ``examples``: the new ones, in the order of all rows
    below.
    ``answers`` (n_answer_tokens, vocabulary): logits that predict the answers of ``order``, under
    intervention for the new task.
    ``heads`` (n_layers, n_examples, n_heads, head_dim): head outputs at the last prompt token.
    """

    order: Sequence[Example]
    examples: Sequence[Example]
    progress: float
    answers: torch.Tensor
    heads: torch.Tensor | None = None
    _pack: Pack | None = None
    _plain: Rows | None = None
    _taught: Rows | None = None
    _compared: dict[Hashable, tuple[str, torch.Tensor]] = field(default_factory=dict)

    def plain(self, positions: str) -> Scores:
        """Without intervention, at the rows of :func:`compared_rows`."""
        return self._at(given(self._plain, "a plain branch"), positions)

    def taught(self, positions: str) -> Scores:
        """Of the current model with h̄ added, at the rows of :func:`compared_rows`."""
        return self._at(given(self._taught, "a teacher's branch"), positions).detach()

    def compared(
        self, key: Hashable, positions: str, compute: Callable[[Student], torch.Tensor]
    ) -> torch.Tensor:
        """``compute``'s number for each row of :func:`compared_rows`. What a term with the same ``key`` has
        had computed at these positions or more is not computed again.
        """
        known = self._compared.get(key)
        if known is None or POSITIONS.index(known[0]) < POSITIONS.index(positions):
            known = self._compared[key] = positions, compute(self)
        widest, values = known
        if widest == positions:
            return values
        wide, narrow = (self._compared_rows(0, at) for at in (widest, positions))
        return values[[wide.index(row) for row in narrow]]

    def _at(self, rows: Rows, positions: str) -> Scores:
        return rows.pick(self._compared_rows(rows.branch, positions))

    def _compared_rows(self, branch: int, positions: str) -> list[int]:
        return compared_rows(given(self._pack, "a pack"), self.examples, branch, positions)


@dataclass(frozen=True)
class Rows:
    """Scores of some rows of a branch. What is asked for whole is given as it is: copies are large."""

    branch: int
    rows: Sequence[int]
    scores: Scores

    def pick(self, rows: Sequence[int]) -> Scores:
        if list(rows) == list(self.rows):
            return self.scores
        place = {row: k for k, row in enumerate(self.rows)}
        return self.scores.pick([place[row] for row in rows])


def run_student(
    engine: PrefixEngine,
    examples: Sequence[Example],
    progress: float,
    needs: PassNeeds,
    additions: Additions | None = None,
    strength: float = 0.0,
    chosen: Collection[int] | None = None,
) -> Student:
    """One forward pass over ``examples`` (new ones and replayed ones).

    ``additions``, ``strength``: s·h̄ is added at the last prompt token of the new task's answers (paper
    2406.12227, eq. 3), or of those whose places in ``examples`` are ``chosen``.
    """
    order = sorted(enumerate(examples), key=lambda pair: not pair[1].new)
    examples, new = [e for _, e in order], [e for _, e in order if e.new]
    under = [t for t, (i, _) in enumerate(order[: len(new)]) if chosen is None or i in chosen]
    shift = additions if strength != 0 and under else None
    plain = int(shift is not None and (needs.plain is not None or needs.heads))
    taught = plain + 1 if needs.taught is not None and new else None
    branches = 1 + plain + (taught is not None)
    pack = Pack(tuple(e.tree(branches if e.new else 1) for e in examples))
    answers = [row for t, e in enumerate(examples) for row in branch_rows(pack, t, 0)[: len(e.answer)]]
    compared = compared_rows(pack, new, plain, needs.plain) if needs.plain else []
    teaching = compared_rows(pack, new, taught, "output") if taught else []
    known = set(compared)  # without intervention the answers are among the rows that are compared
    apart = [row for row in answers if row not in known]
    added: list[tuple[Sequence[int], int, float, Additions]] = []
    if shift is not None:
        added.append((under, 0, strength, shift))
    if taught is not None and needs.taught is not None:
        added.append((range(len(new)), taught, 1.0, needs.taught))
    last = [pack.branch_start(t, plain) for t in range(len(new))] if needs.heads else None
    scores, heads = _run(engine, pack, apart + compared + teaching, added, last)
    answering, shared, teacher = (
        Scores(part, scores.head) for part in scores.values.split([len(apart), len(compared), len(teaching)])
    )
    if len(apart) < len(answers):
        answering = Rows(0, apart + compared, scores).pick(answers)
    rows = Rows(plain, compared, shared), Rows(taught or 0, teaching, teacher)
    return Student(examples, new, progress, answering.logits(), heads, pack, *rows)


def _run(
    engine: PrefixEngine,
    pack: Pack,
    rows: Sequence[int],
    added: Sequence[tuple[Sequence[int], int, float, Additions]],
    last: Sequence[int] | None,
) -> tuple[Scores, torch.Tensor | None]:
    """(scores of ``rows``, head outputs at the rows ``last``, if there are any) of one forward pass.

    ``added``: trees, a branch of theirs, degree and h̄ of every intervention.
    """
    head = frozen_head(engine)
    with ExitStack() as stack:
        for trees, branch, degree, additions in added:
            first = torch.tensor([pack.branch_start(t, branch) for t in trees])
            degrees = torch.full((len(first),), degree)
            stack.enter_context(added_to_heads(engine.geometry, additions, first, degrees))
        heads = None if last is None else stack.enter_context(captured_heads(engine.geometry, last))
        scores = run_scores(engine, pack, rows, head)
    return scores, None if heads is None else torch.stack(heads)


def branch_rows(pack: Pack, tree: int, branch: int) -> range:
    """Row indices of a branch of a tree."""
    start = pack.branch_start(tree, branch)
    return range(start, start + len(pack.trees[tree].branches[branch]))


def compared_rows(pack: Pack, examples: Sequence[Example], branch: int, positions: str) -> list[int]:
    """Row indices at which two models are compared on the first trees of a pack, one for each example.

    The prefixes (``positions`` "all" only, each once) come first, then tree by tree.
    """
    with_prefix = [e for e in examples if e.prefix_length and positions == "all"]
    prefixes = dict.fromkeys(e.prompt[: e.prefix_length] for e in with_prefix)
    rows = [row for prefix in prefixes for row in pack.prefixes[prefix]]
    for t in range(len(examples)):
        here = branch_rows(pack, t, branch)
        if positions == "all":
            rows += range(pack.starts[t], pack.starts[t] + len(pack.trees[t].trunk))
        rows += here[:1] if positions == "last_prompt" else here
    return rows


def compared_weights(examples: Sequence[Example], positions: str, reduction: str) -> torch.Tensor:
    """The weight of each row of :func:`compared_rows` in a mean over examples of a sum or mean over
    positions. A row that several examples share counts once for each.
    """
    prefixes: dict[tuple[int, ...], float] = {}
    weights: list[float] = []
    for e in examples:
        compared = {"last_prompt": 1, "output": len(e.branch)}.get(
            positions, len(e.prompt) - e.prefix_length + len(e.branch) - 1
        )
        count = compared + (e.prefix_length if positions == "all" else 0)
        weight = 1 / len(examples) / (count if reduction == "mean" else 1)
        weights += [weight] * compared
        if e.prefix_length and positions == "all":
            prefix = e.prompt[: e.prefix_length]
            prefixes[prefix] = prefixes.get(prefix, 0.0) + weight
    shared = [weight for prefix, weight in prefixes.items() for _ in prefix]
    return torch.tensor(shared + weights)
