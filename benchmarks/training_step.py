"""One guided training step against the same plain LoRA step: same batch, same adapter, same answer tokens.

The plain step is this project's own (shared code, only the needed logits), not a slower one; a step with the logits of all
positions, as a stock trainer computes them, is timed beside it for orientation.
"""

from __future__ import annotations

import argparse

import torch
from _common import Line, interleaved, main, parser, report, start, task_frame
from torch.nn.functional import cross_entropy

from anamnesis.data.prompts import Template
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.adapters import add_adapter
from anamnesis.training.examples import build_examples
from anamnesis.training.guidance import GuidedAnswerLoss, KlSettings
from anamnesis.training.objectives import AnswerLoss
from anamnesis.vectors.instruction import head_additions

BATCH = 8
TASKS = ("choose_last_of_5_spanish", "news_topic")
LORA = {"rank": 8, "alpha": 16, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
HEADS = [(layer, layer % 3) for layer in range(10, 20)]  # the cost does not depend on which heads or vectors
FORMS = {
    "current model, output positions": (KlSettings(teacher="current", positions="output"), 1.35),
    "previous model, all positions": (KlSettings(teacher="previous", positions="all"), 1.7),
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


def measure(task: str, options: argparse.Namespace, model, tokenizer) -> list[Line]:
    engine = PrefixEngine(model)
    geometry = engine.geometry
    mean = torch.randn(
        geometry.n_layers, geometry.n_heads, geometry.head_dim, generator=torch.Generator().manual_seed(0)
    )
    additions = head_additions(geometry, 0.1 * mean, HEADS)
    examples, _ = build_examples(task_frame(task, options, 8), tokenizer, Template(), 512)
    batch = examples[:BATCH]

    def step(objective) -> None:
        model.zero_grad()
        objective(engine, batch, 0.3).total.backward()

    sides = {"plain": lambda: step(AnswerLoss()), "stock": lambda: stock_step(model, batch)}
    for name, (kl, _) in FORMS.items():
        sides[name] = lambda objective=GuidedAnswerLoss(additions, kl): step(objective)
    for work in sides.values():
        work()
    seconds = interleaved(sides, options.rounds)
    tokens = sum(len(e.prompt) + len(e.answer) - 1 for e in batch)
    lines = [Line(f"{task}: plain step", seconds["plain"], "s", note=f"{BATCH} examples, {tokens} tokens")]
    lines.append(Line(f"{task}: stock / plain", seconds["stock"] / seconds["plain"], "x"))
    for name, (_, bar) in FORMS.items():
        lines.append(
            Line(f"{task}: IVG, {name} / plain", seconds[name] / seconds["plain"], "x", bar, at_least=False)
        )
    return lines


def run() -> int:
    made = parser(__doc__)
    made.set_defaults(rounds=9)
    options = made.parse_args()
    model, tokenizer = start(options)
    tuned = add_adapter(model, LORA, 0).train()
    return report(
        [line for task in TASKS for line in measure(task, options, tuned, tokenizer)], options.output
    )


if __name__ == "__main__":
    main(run)
