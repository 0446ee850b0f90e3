"""One guided training step against the same plain LoRA step: same batch, same adapter, same answer tokens.

The plain step is this project's own (shared code and beginnings, only the needed logits), not a slower one; a
step with the logits of all positions, as a stock trainer computes them, is timed beside it for orientation. A
teacher that is the model before the stage runs once over the stage's examples: its share of one step, for a
stage of one epoch, is part of the guided step's time.
"""

from __future__ import annotations

import argparse

import torch
from _common import Line, interleaved, main, parser, report, start, task_frame
from torch.nn.functional import cross_entropy

from anamnesis.data.prompts import Template
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.adapters import add_lora
from anamnesis.training.batches import Batch
from anamnesis.training.examples import build_examples
from anamnesis.training.methods import build
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.vectors.instruction import head_additions

BATCH = 8
TASKS = ("alphabetically_last_of_5", "choose_last_of_5_spanish", "news_topic", "verb_v_adjective_5_spanish")
LORA = {"rank": 8, "alpha": 16, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
HEADS = [(layer, layer % 3) for layer in range(10, 20)]  # the cost does not depend on which heads or vectors
EXAMPLES = 200  # of a stage: what the teacher's pass is spread over
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


def stock_step(model, examples) -> None:
    """The textbook step: padded batch, logits and shifted cross-entropy over all positions."""
    length = max(len(e.prompt) + len(e.answer) for e in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        tokens = torch.tensor([*e.prompt, *e.answer])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, len(e.prompt) : len(tokens)] = tokens[len(e.prompt) :]
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()


def measure(task: str, options: argparse.Namespace, model, tokenizer) -> tuple[dict[str, float], int]:
    """Median seconds of each kind of step on one batch of a task, and the tokens of the batch."""
    engine = PrefixEngine(model)
    geometry = engine.geometry
    shape = (geometry.n_layers, geometry.n_heads, geometry.head_dim)
    additions = head_additions(
        geometry, 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0)), HEADS
    )
    examples, _ = build_examples(task_frame(task, options, EXAMPLES), tokenizer, Template(), 512)
    batch = Batch(tuple(examples[:BATCH]))
    stage = Stage(engine, tokenizer, 1, examples, {}, {}, 0, options.batch_tokens)
    share = len(examples) / BATCH

    def step(objective: Objective) -> None:
        model.zero_grad()
        objective(engine, batch, 0.3).total.backward()

    plain = Objective()
    sides = {"plain": lambda: step(plain), "stock": lambda: stock_step(model, batch.examples)}
    for name, (teacher, positions, _) in FORMS.items():
        kl = {**KL, "teacher": teacher, "positions": positions}
        _, guided = build("inclora", stage, {**GUIDANCE, "kl": kl}, additions)
        sides[name] = lambda objective=guided: step(objective)
    sides["teacher"] = stage.reference
    for work in list(sides.values())[:-1]:
        work()
    seconds = interleaved(sides, options.rounds)
    seconds["teacher"] /= share
    seconds["previous model, all positions"] += seconds["teacher"]
    return seconds, sum(len(e.prompt) + len(e.answer) - 1 for e in batch.examples)


def lines_of(what: str, seconds: dict[str, float], note: str, with_bar: bool) -> list[Line]:
    lines = [Line(f"{what}: plain step", seconds["plain"], "s", note=note)]
    lines.append(Line(f"{what}: stock / plain", seconds["stock"] / seconds["plain"], "x"))
    lines.append(Line(f"{what}: teacher's share / plain", seconds["teacher"] / seconds["plain"], "x"))
    for name, (_, _, bar) in FORMS.items():
        ratio = seconds[name] / seconds["plain"]
        lines.append(
            Line(f"{what}: IVG, {name} / plain", ratio, "x", bar if with_bar else None, at_least=False)
        )
    return lines


def run() -> int:
    made = parser(__doc__)
    made.set_defaults(rounds=7)
    made.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a pass of the teacher")
    options = made.parse_args()
    model, tokenizer = start(options)
    tuned = add_lora(model, LORA, 0).train()
    lines, total = [], {}
    for task in TASKS:
        seconds, tokens = measure(task, options, tuned, tokenizer)
        lines += lines_of(task, seconds, f"{BATCH} examples, {tokens} tokens", with_bar=False)
        total = {name: total.get(name, 0.0) + value for name, value in seconds.items()}
    return report([*lines, *lines_of("all tasks", total, "one batch of each", with_bar=True)], options.output)


if __name__ == "__main__":
    main(run)
