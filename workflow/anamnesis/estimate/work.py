"""How much there is to compute in one job of every kind.

The counts follow what the jobs do: shared beginnings once, only the rows of the output head that are read,
no padding. A backward pass through frozen weights computes their inputs' gradients only: it costs as much as
forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anamnesis.estimate.token_lengths import Lengths
from anamnesis.models.shape import Shape

BACKWARD = 2.0  # forward and backward, in forward passes
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


def tune(tasks: Sequence[Lengths], tuning: Mapping, validation: int) -> Work:
    """Plain training on the first examples of some tasks, mixed: what the prompts of a task begin with runs
    once in every batch. ``validation``: examples of each task that are asked before and after.
    """
    total = Work()
    mixed = sum(min(task.train, tuning["examples"]) for task in tasks)
    steps = -(-mixed // tuning["batch_size"])
    for task in tasks:
        n = min(task.train, tuning["examples"])
        example = task.own(0) + max(0.0, task.answer - 1)
        tokens = min(steps, n) * task.shared + n * example
        total += Work(tokens, n * task.answer, task.shared + example / 2).times(BACKWARD * tuning["epochs"])
        more = task.options if task.ranked else task.answer
        asked = Work(task.shared + validation * (task.own(0) + more), validation * (1 + more), example)
        total += asked.times(2 if validation else 0)
    return total


def average_activations(task: Lengths, vectors: Mapping) -> Work:
    own, n = task.own(vectors["shots"]), vectors["activation_prompts"]
    more = task.options if task.ranked else max(0.0, task.answer - 1)
    return Work(task.shared + n * (own + more), n * (1 + more), (task.shared + own) / 2)


def sweep_heads(task: Lengths, vectors: Mapping, shape: Shape) -> Work:
    """All shards of a task together."""
    own, n = task.own(vectors["shots"]), vectors["effect_prompts"]
    m = 1.0 if vectors["target"] == "first_token" else max(1.0, task.answer)
    born = shape.heads * m * (shape.layers + 1) / 2
    rows = n * m * (shape.layers * shape.heads + 1)
    prompts = Work(task.shared + n * (own + m - 1), rows, (task.shared + own) / 2)
    return prompts + Work(n * born, 0.0, task.shared + own)


def intervene(task: Lengths, settings: Mapping, shape: Shape) -> Work:
    """Every layer on test examples, and without the random vector on validation examples."""
    m, total = max(1.0, task.answer), Work()
    layers = shape.layers if settings["layers"] is None else len(settings["layers"])
    for examples, conditions in ((task.test, CONDITIONS), (task.validation, 1)):
        n, born = min(settings["examples"], examples), conditions * m * layers / 2
        for shots in (0, settings["shots"]):
            own = task.own(shots)
            tokens = task.shared + n * (own + m - 1 + born)
            total += Work(tokens, n * m * (conditions * layers + 1), task.shared + own)
    return total


def recover(task: Lengths, settings: Mapping) -> Work:
    """One checkpoint on the test examples of a set: zero-shot with vectors after one layer, and few-shot."""
    n, m = min(settings["examples"], task.test), max(1.0, task.answer)
    zero, few = task.own(0), task.own(settings["shots"])
    added = Work(
        task.shared + n * (zero + m - 1 + CONDITIONS * m / 2), n * m * (CONDITIONS + 1), task.shared + zero
    )
    return added + Work(task.shared + n * (few + m - 1), n * m, task.shared + few)


def evaluate(tasks: Sequence[Lengths], held_out: Sequence[Lengths], settings: Mapping) -> Work:
    """One checkpoint on all sets, zero-shot and few-shot, every draw of demonstrations once for a set."""
    total, both = Work(), (0, settings["shots"])
    asked = [(task, both if settings["few_shot"] == "all" else (0,)) for task in tasks]
    for task, numbers in [*asked, *((task, both) for task in held_out)]:
        for shots in numbers:
            before = task.shared + shots * (task.question + task.answer)
            shown = min(settings["demonstration_draws"], task.test) if shots else 1
            more = task.options if task.ranked else task.answer
            tokens = shown * before + task.test * (task.own(0) + more)
            total += Work(tokens, task.test * (1 + more), before + task.question)
            if "knowledge" in settings["forms"] and task.known:
                prompt, answer, options = task.knowledge
                before = shots * (prompt + answer)
                tokens = shown * before + task.known * (prompt + options)
                total += Work(tokens, task.known * (1 + options), before + prompt)
    return total


def train(
    task: Lengths,
    training: Mapping,
    base: str,
    settings: Mapping,
    guidance: Mapping | None,
    past: Sequence[Lengths] = (),
) -> Work:
    """One stage of a method called ``base``; ``past``: the other tasks that it sees examples of."""
    n, epochs = task.train, training["epochs"]
    steps = -(-n // training["batch_size"]) * epochs
    example = task.own(0) + max(0.0, task.answer - 1)
    once = Work(steps / epochs * task.shared + n * example, n * task.answer, task.shared + example / 2)
    total = once.times(BACKWARD * epochs)
    total += _guidance(task, guidance, n * epochs, once) if guidance else Work()
    return total + _method(task, base, settings, n * epochs, steps, once, past, guidance is not None)


def _guidance(task: Lengths, guidance: Mapping, examples: float, once: Work) -> Work:
    """The plain answers beside those under intervention, the divergence's rows, and the teacher."""
    kl = guidance["kl"]
    if not kl["weight"]:
        return Work()
    compared = {"last_prompt": 1.0, "output": task.answer, "all": task.own(0) + task.answer}[kl["positions"]]
    branch = Work(examples * task.answer, examples * compared, once.keys)
    teacher = Work(once.tokens, examples * compared, once.keys)
    if kl["teacher"] == "current":
        teacher = Work(examples * task.answer, examples * compared, once.keys)
    return branch.times(BACKWARD) + teacher


def _method(
    task: Lengths,
    base: str,
    own: Mapping,
    examples: float,
    steps: int,
    once: Work,
    past: Sequence[Lengths],
    guided: bool,
) -> Work:
    """What a method adds to plain training."""
    if base == "lwf":
        rows = task.answer if own["positions"] == "output" else task.own(0) + task.answer
        return Work(once.tokens, BACKWARD * examples * rows, once.keys)
    if base == "fvg":
        rows = task.own(0) + task.answer if own["kl_all"] else 1.0
        return Work(once.tokens + task.train, 3 * examples * rows, once.keys)
    if base == "ewc":
        return once.times(BACKWARD * min(1.0, own["fisher_examples"] / max(1, task.train)))
    if base == "replay":
        extra = sum(own["share"] * p.train * (p.instruction + p.question + p.answer) for p in past)
        return Work(BACKWARD * extra * examples / max(1, task.train), 0.0, once.keys)
    if base == "jfa":
        # Prompts share no beginning from the first layer with latent tasks on, by default the middle one, and
        # none at all where guidance adds something below it.
        apart = 0.5 if own["latent_layers"] is None and not guided else 1.0
        alone = Work(examples * task.shared * BACKWARD * apart * own["latent_tasks"])
        if not past or not own["flashbacks"]:
            return alone
        prompt = sum(p.instruction + p.question for p in past) / len(past)
        shown = steps * own["flashbacks_per_step"]
        return alone + Work(shown * prompt * BACKWARD, 3 * shown * prompt, prompt / 2)
    return Work()
