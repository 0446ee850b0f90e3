"""How much there is to compute in one job of every kind.

The counts follow what the jobs do: shared prefixes once, only the rows of the output head that are read, no
padding. tests/unit/test_compute.py holds them against torch's own counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anamnesis.estimate.lengths import Lengths
from anamnesis.estimate.shape import Shape

BACKWARD = 2.0
"""Forward and backward, in forward passes: through frozen weights only the gradients of inputs are computed,
which costs as much as forward."""
CONDITIONS = 2  # of an intervention on test examples: the vector and the random one


@dataclass(frozen=True)
class Work:
    """``tokens`` through all layers, in forward passes; ``rows`` through the output head; ``keys`` that a
    token sees on average.
    """

    tokens: float = 0.0
    rows: float = 0.0
    keys: float = 0.0

    def __add__(self, other: Work) -> Work:
        total = self.tokens + other.tokens
        keys = (self.tokens * self.keys + other.tokens * other.keys) / total if total else 0.0
        return Work(total, self.rows + other.rows, keys)

    def times(self, factor: float) -> Work:
        return Work(factor * self.tokens, factor * self.rows, self.keys)

    def flops(self, shape: Shape) -> float:
        """Floating-point operations: two for each weight and token, and those of the attention."""
        attention = 4 * shape.layers * shape.heads * shape.head_dim * self.keys
        return self.tokens * (2 * shape.active + attention) + 2 * self.rows * shape.head


NOTHING = Work()


def epoch(task: Lengths, examples: float, batches: float) -> Work:
    """One forward pass of ``examples`` and their answers; what prompts share runs once in every batch."""
    own = task.own(0) + max(0.0, task.answer - 1)
    tokens = batches * task.shared + examples * own
    return Work(tokens, examples * task.answer, task.shared + own / 2)


def tune(tasks: Sequence[Lengths], tuning: Mapping, validation: int) -> Work:
    """Plain training on the first examples of some tasks, mixed. ``validation``: examples of each task that
    are scored before and after.
    """
    total, counts = NOTHING, [min(task.train, tuning["examples"]) for task in tasks]
    batches = -(-sum(counts) // tuning["batch_size"])
    for task, n in zip(tasks, counts, strict=True):
        total += epoch(task, n, min(batches, n)).times(BACKWARD * tuning["epochs"])
        own = task.own(0) + task.scored
        keys = task.own(0) + max(0.0, task.answer - 1)
        scored = Work(task.shared + validation * own, validation * (1 + task.scored), keys)
        total += scored.times(2 if validation else 0)
    return total


def average_activations(task: Lengths, vectors: Mapping) -> Work:
    own, n = task.own(vectors["shots"]), vectors["activation_prompts"]
    more = task.options if task.ranked else max(0.0, task.answer - 1)
    return Work(task.shared + n * (own + more), n * (1 + more), (task.shared + own) / 2)


def sweep_heads(task: Lengths, vectors: Mapping, shape: Shape) -> Work:
    """All shards of a task together."""
    own, n = task.own(vectors["shots"]), vectors["effect_prompts"]
    m = 1.0 if vectors["target"] == "first_token" else max(1.0, task.answer)
    # a row for every head, born at the head's layer: half of the layers on average
    born = shape.heads * m * (shape.layers + 1) / 2
    rows = n * m * (shape.layers * shape.heads + 1)
    prompts = Work(task.shared + n * (own + m - 1), rows, (task.shared + own) / 2)
    return prompts + Work(n * born, 0.0, task.shared + own)


def intervene(task: Lengths, settings: Mapping, shape: Shape) -> Work:
    """Every layer on test examples, and without the random vector on validation examples."""
    layers = shape.layers if settings["layers"] is None else len(settings["layers"])
    # validation examples only choose the layer of the vector
    splits = ((task.test, CONDITIONS * layers), (task.validation, layers))
    asked = [(shots, *split) for split in splits for shots in (0, settings["shots"])]
    return sum((_add(task, shots, min(settings["examples"], n), added) for shots, n, added in asked), NOTHING)


def recover(task: Lengths, settings: Mapping) -> Work:
    """One checkpoint on the test examples of a set: zero-shot with vectors after one layer, and few-shot."""
    n = min(settings["examples"], task.test)
    return _add(task, 0, n, CONDITIONS) + _add(task, settings["shots"], n, 0)


def _add(task: Lengths, shots: int, examples: int, added: int) -> Work:
    """Prompts with ``added`` branch rows each for all tokens of the answer, born after half of the layers on
    average.
    """
    own, answer = task.own(shots), max(1.0, task.answer)
    tokens = task.shared + examples * (own + answer - 1 + added * answer / 2)
    return Work(tokens, examples * answer * (added + 1), task.shared + own)


def evaluate(tasks: Sequence[Lengths], held_out: Sequence[Lengths], settings: Mapping) -> Work:
    """One checkpoint on all sets, zero-shot and few-shot, every draw of demonstrations once for a set."""
    total, few = NOTHING, settings["shots"]
    asked = [(task, shots) for task in held_out for shots in (0, few)]
    asked += [
        (task, shots) for task in tasks for shots in ((0, few) if settings["few_shot"] == "all" else (0,))
    ]
    for task, shots in asked:
        draws = min(settings["demonstration_draws"], task.test) if shots else 1
        before = task.shared + shots * (task.question + task.answer)
        tokens = draws * before + task.test * (task.own(0) + task.scored)
        total += Work(tokens, task.test * (1 + task.scored), before + task.question)
        if "knowledge" in settings["forms"] and task.known:
            prompt, answer, options = task.knowledge
            before = shots * (prompt + answer)
            tokens = draws * before + task.known * (prompt + options)
            total += Work(tokens, task.known * (1 + options), before + prompt)
    return total


@dataclass(frozen=True)
class Stage:
    """A training stage, all that the cost of a method is counted from: ``once``, one forward pass of its
    examples; ``examples`` and ``steps`` of all epochs; ``past``: the other tasks that it sees examples of.
    """

    task: Lengths
    epochs: int
    batch_size: int
    past: Sequence[Lengths] = ()
    guided: bool = False

    @property
    def examples(self) -> int:
        return self.task.train * self.epochs

    @property
    def steps(self) -> int:
        return -(-self.task.train // self.batch_size) * self.epochs

    @property
    def once(self) -> Work:
        return epoch(self.task, self.task.train, self.steps / self.epochs)

    def work(self, tokens: float, rows: float = 0.0, keys: float | None = None) -> Work:
        """Forward passes. ``keys``: None for those of the stage's own examples."""
        return Work(tokens, rows, self.once.keys if keys is None else keys)

    def trained(self, tokens: float, rows: float = 0.0, keys: float | None = None) -> Work:
        """Forward and backward passes."""
        return self.work(tokens, rows, keys).times(BACKWARD)


def train(stage: Stage, settings: Mapping, guidance: Mapping | None, extra_work=None) -> Work:
    """One stage of a method. ``extra_work(stage, settings)``: what the method adds to plain training."""
    total = stage.once.times(BACKWARD * stage.epochs)
    total += _guide(stage, guidance) if guidance else NOTHING
    return total + extra_work(stage, settings) if extra_work else total


def _guide(stage: Stage, guidance: Mapping) -> Work:
    """Plain answers in addition to those under intervention, the divergence's rows, and the teacher."""
    kl, task = guidance["kl"], stage.task
    if not kl["weight"]:
        return NOTHING
    compared = {"last_prompt": 1.0, "output": task.answer, "all": task.own(0) + task.answer}[kl["positions"]]
    branch = stage.work(stage.examples * task.answer, stage.examples * compared)
    teacher = branch if kl["teacher"] == "current" else stage.work(stage.once.tokens, branch.rows)
    return branch.times(BACKWARD) + teacher
