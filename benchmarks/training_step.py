"""One guided training step against the same plain LoRA step: same batch, same adapter, same answer tokens.

The plain step is this project's own (shared code and beginnings, only the needed logits), not a slower one; a
step with the logits of all positions, as a stock trainer computes them, is compared with both. A
teacher that is the model before the stage runs once over the stage's examples: its share of one step, for a
stage of one epoch, is part of the guided step's time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from _common import Line, interleaved, main, parser, report, start, task_frame
from _steps import BATCH, FORMS, LORA, step_lines, step_sides, with_teacher

from anamnesis.data.prompts import Template
from anamnesis.engine.examples import build_examples
from anamnesis.models.adapters import add_lora

TASKS = ("alphabetically_last_of_5", "choose_last_of_5_spanish", "news_topic", "verb_v_adjective_5_spanish")
FASTER, CHEAPER = 2.0, 0.8  # bars
EXAMPLES = 200  # of a stage: what the teacher's pass is spread over


def measure(task: str, options: argparse.Namespace, model, tokenizer) -> tuple[dict[str, float], int]:
    """Median seconds of each kind of step on one batch of a task, and the tokens of the batch."""
    examples, _ = build_examples(task_frame(task, options, EXAMPLES), tokenizer, Template(), 512)
    sides, batch = step_sides(model, examples, tokenizer, options.batch_tokens)
    for work in list(sides.values())[:-1]:
        work()
    seconds = with_teacher(interleaved(sides, options.rounds), len(examples))
    return seconds, sum(len(e.prompt) + len(e.answer) - 1 for e in batch.examples)


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
        lines += step_lines(task, seconds, f"{BATCH} examples, {tokens} tokens", with_bar=False)
        total = {name: total.get(name, 0.0) + value for name, value in seconds.items()}
    lines += step_lines("all tasks", total, "one batch of each", with_bar=True)
    return report([*lines, *against_stock(total)], options.output)


def against_stock(seconds: dict[str, float]) -> Iterator[Line]:
    """Our steps and the textbook's plain one, with their bars."""
    yield Line("all tasks: stock / plain", seconds["stock"] / seconds["plain"], "x", FASTER)
    for name in FORMS:
        share = seconds[name] / seconds["stock"]
        yield Line(f"all tasks: IVG, {name} / stock", share, "x", CHEAPER, at_least=False)


if __name__ == "__main__":
    main(run)
