"""The sides of the comparison of training steps: plain, stock, and guided in two forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from _common import Line
from torch.nn.functional import cross_entropy

from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example
from anamnesis.engine.heads import HeadGeometry
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.build import build
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.vectors.instruction import head_additions

BATCH = 8
LORA = {"rank": 8, "alpha": 16, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
GUIDANCE = {"schedule": "linear", "plateau": 0.25, "intervention": True}
KL = {
    "weight": 0.05,
    "direction": "student_teacher",
    "temperature": 2.0,
    "temperature_squared": False,
    "reduction": "sum",
}
FORMS = {
    "current model, output positions": ("current", "output", 1.35),
    "previous model, all positions": ("previous", "all", 1.7),
}


def guided_heads(geometry: HeadGeometry) -> list[tuple[int, int]]:
    """A head in each layer of the middle third: the cost does not depend on which heads or vectors."""
    layers = range(geometry.n_layers // 3, max(1, 2 * geometry.n_layers // 3))
    return [(layer, layer % min(3, geometry.n_heads)) for layer in layers]


def stock_step(model, examples: Sequence[Example]) -> None:
    """The textbook step: padded batch, logits and shifted cross-entropy over all positions."""
    length = max(len(e.prompt) + len(e.answer) for e in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        tokens = torch.tensor([*e.prompt, *e.answer])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, len(e.prompt) : len(tokens)] = tokens[len(e.prompt) :]
    ids, mask, labels = (x.to(model.device) for x in (ids, mask, labels))
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()).backward()


def step_sides(
    model, examples: Sequence[Example], tokenizer, batch_tokens: int
) -> tuple[dict[str, Callable[[], object]], Batch]:
    """What is timed, and the batch of every step. The side "teacher" is a pass over all ``examples``."""
    engine = PrefixEngine(model)
    geometry = engine.geometry
    shape = (geometry.n_layers, geometry.n_heads, geometry.head_dim)
    noise = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    additions = head_additions(geometry, noise, guided_heads(geometry))
    batch = Batch(tuple(examples[:BATCH]))
    stage = Stage(engine, tokenizer, 1, examples, {}, {}, 0, batch_tokens)

    def step(objective: Objective) -> None:
        model.zero_grad()
        objective(engine, batch, 0.3).total.backward()

    plain = Objective()
    sides = {"plain": lambda: step(plain), "stock": lambda: stock_step(model, batch.examples)}
    for name, (teacher, positions, _) in FORMS.items():
        kl = {**KL, "teacher": teacher, "positions": positions}
        _, guided = build("inclora", stage, {**GUIDANCE, "kl": kl}, additions)
        sides[name] = lambda objective=guided: step(objective)
    return {**sides, "teacher": stage.reference}, batch


def with_teacher(seconds: dict[str, float], examples: int) -> dict[str, float]:
    """A teacher that is the model before the stage runs once over the stage's examples: its share of a step
    belongs to the step.
    """
    share = seconds["teacher"] / (examples / BATCH)
    form = "previous model, all positions"
    return {**seconds, "teacher": share, form: seconds[form] + share}


def step_lines(what: str, seconds: dict[str, float], note: str, with_bar: bool) -> list[Line]:
    lines = [Line(f"{what}: plain step", seconds["plain"], "s", note=note)]
    lines.append(Line(f"{what}: stock / plain", seconds["stock"] / seconds["plain"], "x"))
    lines.append(Line(f"{what}: teacher's share / plain", seconds["teacher"] / seconds["plain"], "x"))
    for name, (_, _, bar) in FORMS.items():
        ratio = seconds[name] / seconds["plain"]
        lines.append(
            Line(f"{what}: IVG, {name} / plain", ratio, "x", bar if with_bar else None, at_least=False)
        )
    return lines
