"""Causal-effect sweep over all heads: against one full forward per head, and against one plain forward.

The slow side has the form of public tools: one prompt at a time, one forward pass per head with a hook that replaces
the head's output at the last token, logits at all positions. It is timed on a sample of the heads, spread evenly over
the layers, and extrapolated linearly; its probabilities are compared with those of the sweep.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import numpy as np
import torch
from _common import Line, UserError, interleaved, main, parser, report, seconds, start, task_frame

from anamnesis.data.prompts import Template
from anamnesis.evaluation.scoring import Question
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions

BATCH = 4
SHOTS, MOST_SHOTS = 10, 40
SAME = 1e-5


@dataclass(frozen=True)
class Setting:
    """Prompts of at least ``tokens`` tokens and the bars held against them (None: no bar at this length)."""

    tokens: int
    long: bool
    naive_bar: float | None
    plain_bar: float | None


SETTINGS = (Setting(100, False, 95, 3.0), Setting(400, True, 180, None), Setting(500, True, 180, 1.8))


def prompts_of(setting: Setting, tokenizer, options) -> tuple[list[Question], int, str]:
    """The ``BATCH`` shortest prompts of at least the setting's length, their shots and the task.

    Ten demonstrations each, and one more at a time while there are not enough prompts of that length.
    """
    name = (("ag_news" if options.data else "general_facts") if setting.long else "antonym")
    frame = task_frame(name, options, 100)
    for shots in range(SHOTS, MOST_SHOTS + 1):
        plan = PromptPlan(shots, 0, 60, include_instruction=True)
        questions = encode_questions(tokenizer, build_prompts(frame, name, plan, Template(), options.seed))
        fitting = sorted((q for q in questions if len(q.context) >= setting.tokens), key=lambda q: len(q.context))
        if len(fitting) >= BATCH:
            return fitting[:BATCH], shots, name
    raise UserError(f"task '{name}' gives no prompts of {setting.tokens} tokens with {MOST_SHOTS} demonstrations: use "
                    "longer examples")


@torch.no_grad()
def naive_probabilities(engine: PrefixEngine, question: Question, mean: torch.Tensor, heads) -> list[float]:
    """P(first target token) with each of ``heads`` replaced by its mean, one full forward pass per head."""
    size, found = engine.geometry.head_dim, []
    tokens = torch.tensor([list(question.context)])
    for layer, head in heads:

        def replace(module, args, layer=layer, head=head):
            x = args[0].clone()
            x[0, -1, head * size : (head + 1) * size] = mean[layer, head]
            return (x, *args[1:])

        handle = engine.geometry.projections[layer].register_forward_pre_hook(replace)
        logits = engine.model(tokens, use_cache=False).logits
        handle.remove()
        found.append(float(logits[0, -1].softmax(-1)[question.continuations[0][0]]))
    return found


@torch.no_grad()
def plain_forward(engine: PrefixEngine, question: Question) -> torch.Tensor:
    """Logits after the last token of the prompt, and of no other."""
    return engine.model(torch.tensor([list(question.context)]), use_cache=False, logits_to_keep=1).logits


def measure(setting: Setting, engine: PrefixEngine, tokenizer, options: argparse.Namespace) -> list[Line]:
    """The lines of one prompt length."""
    geometry = engine.geometry
    questions, shots, name = prompts_of(setting, tokenizer, options)
    mean = mean_head_activations(engine, questions, 2048).mean
    everything = [(layer, head) for layer in range(geometry.n_layers) for head in range(geometry.n_heads)]
    sample = [everything[i] for i in np.linspace(0, len(everything) - 1, options.heads).round().astype(int)]
    one, ids = questions[0], [str(i) for i in range(BATCH)]
    found = {}

    def sweep(count: int, budget: int):
        return causal_effects(engine, questions[:count], ids[:count], mean, budget, target="first_token")

    def naive():
        found["naive"] = naive_probabilities(engine, one, mean, sample)

    def alone():
        found["sweep"] = sweep(1, 1)

    sides = {"naive": naive, "alone": alone, "batched": lambda: sweep(BATCH, 10**9),
             "plain": lambda: statistics.median(seconds(lambda: plain_forward(engine, one)) for _ in range(3))}
    sweep(1, 1), plain_forward(engine, one)  # warm up
    times = interleaved(sides, options.rounds)
    per_head, plain, batched = times["naive"] / len(sample), times["plain"] / 3, times["batched"] / BATCH
    p = found["sweep"].set_index(["layer", "head"]).p_patched
    gap = max(abs(p[pair] - other) for pair, other in zip(sample, found["naive"], strict=True))
    tokens = [len(q.context) for q in questions]
    print(f"{name}, {shots}-shot, {tokens} tokens: naive {per_head * len(everything):.1f} s a prompt (extrapolated linearly "
          f"from {len(sample)} of {len(everything)} heads), sweep {times['alone']:.3f} s alone and {batched:.3f} s in "
          f"batches of {BATCH}, plain forward {plain:.3f} s", flush=True)
    label, naive_all = f"{tokens[0]} tokens:", per_head * len(everything)
    weights = [t / tokens[0] for t in tokens]  # longer prompts of the batch count as what they are
    share = sum(weights) / len(weights)
    return [
        Line(f"{label} sweep against one full forward per head", naive_all / times["alone"], "x", setting.naive_bar),
        Line(f"{label} the same in batches of {BATCH}", naive_all * share / batched, "x", setting.naive_bar),
        Line(f"{label} sweep against one plain forward", times["alone"] / plain, "x", setting.plain_bar, False),
        Line(f"{label} the same in batches of {BATCH}", batched / (plain * share), "x", setting.plain_bar, False),
        Line(f"{label} largest difference in P", gap, "", SAME, False, f"{len(sample)} heads"),
    ]


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--heads", type=int, default=15, help="heads timed on the slow side (default: %(default)s)")
    options = options.parse_args()
    if options.heads < 1:
        raise UserError(f"--heads is {options.heads}: give 1 or more")
    model, tokenizer = start(options)
    engine = PrefixEngine(model)
    lines = [line for setting in SETTINGS for line in measure(setting, engine, tokenizer, options)]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
