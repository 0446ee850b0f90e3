"""Causal-effect sweep over all heads: against one full forward per head, and against one plain forward.

The slow side has the form of public tools: one prompt at a time, one forward pass per head with a hook that
replaces the head's output at the last token, logits at all positions. It is timed on a sample of the heads,
spread evenly over the layers, and extrapolated linearly; its probabilities are compared with the sweep's.
The demonstrations keep their right labels. How large P and the effects are is printed with the largest
difference in P, which means little where P itself is small.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from _common import Line, UserError, interleaved, main, measuring_engine, parser, report, start, task_frame

from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import PromptPlan, build_prompts, encode_questions

BATCH, PLAIN_REPEATS = 4, 3
MOST_SHOTS = 40
LONG = 250  # tokens from which on prompts are made of a task with longer examples
SAME = 1e-5


def naive_bar(tokens: int) -> float:
    """Times faster than one full forward per head."""
    return 180 if tokens >= 400 else 95


def plain_bar(tokens: int) -> float | None:
    """Plain forwards that a sweep may cost; none is set between short and long prompts."""
    if tokens >= 500:
        return 1.8
    return 3.0 if tokens <= 150 else None


def prompts_of(tokens: int, tokenizer, options) -> tuple[list[Question], int, str]:
    """The ``BATCH`` shortest prompts of at least ``tokens`` tokens, their shots and the task.

    They have ``--shots`` demonstrations each, or one more at a time while too few prompts are that long.
    """
    name = ("ag_news" if options.data else "general_facts") if tokens >= LONG else "antonym"
    frame = task_frame(name, options, 100)
    for shots in range(options.shots, MOST_SHOTS + 1):
        plan = PromptPlan(shots, 60, 0, include_instruction=True)
        questions = encode_questions(tokenizer, build_prompts(frame, name, plan, Template(), options.seed))
        fitting = sorted((q for q in questions if len(q.context) >= tokens), key=lambda q: len(q.context))
        if len(fitting) >= BATCH:
            return fitting[:BATCH], shots, name
    raise UserError(
        f"task '{name}' gives no prompts of {tokens} tokens with {MOST_SHOTS} demonstrations: ask for "
        "fewer --tokens"
    )


@torch.no_grad()
def naive_probabilities(engine: PrefixEngine, question: Question, mean: torch.Tensor, heads) -> list[float]:
    """P(first target token) with each of ``heads`` replaced by its mean, one full forward pass per head."""
    size, found = engine.geometry.head_dim, []
    tokens = torch.tensor([list(question.context)], device=engine.device)
    mean = mean.to(engine.device)
    for layer, head in heads:

        def replace(module, args, layer=layer, head=head):
            x = args[0].clone()
            x[0, -1, head * size : (head + 1) * size] = mean[layer, head]
            return (x, *args[1:])

        handle = engine.geometry.projections[layer].register_forward_pre_hook(replace)
        logits = engine.model(tokens, use_cache=False).logits
        handle.remove()
        found.append(float(logits[0, -1].float().softmax(-1)[question.continuations[0][0]]))
    return found


@torch.no_grad()
def plain_forward(engine: PrefixEngine, question: Question) -> torch.Tensor:
    """Logits after the last token of the prompt, and of no other."""
    tokens = torch.tensor([list(question.context)], device=engine.device)
    return engine.model(tokens, use_cache=False, logits_to_keep=1).logits


def contest(
    engine: PrefixEngine, stock: PrefixEngine, questions: list[Question], options
) -> tuple[dict[str, float], float, str]:
    """(median seconds of naive, alone, batch and plain; largest gap in P; how large P and
    the effects are, for the gap to be judged by). ``stock``: the model as anyone loads it.

    naive is for all heads, extrapolated; batch is for one prompt of a batch of them all; the others are for
    the first prompt, which is the shortest.
    """
    geometry, one = engine.geometry, questions[0]
    mean = mean_head_activations(engine, questions, 1024).mean
    heads = [(layer, head) for layer in range(geometry.n_layers) for head in range(geometry.n_heads)]
    sample = [heads[i] for i in np.linspace(0, len(heads) - 1, options.heads).round().astype(int)]
    found = {}

    def sweep(members: list[Question], budget: int) -> pd.DataFrame:
        names = [str(i) for i in range(len(members))]
        return causal_effects(engine, members, names, mean, budget, target="first_token")

    sweep([one], 1), plain_forward(stock, one)  # warm up
    times = interleaved(
        {
            "naive": lambda: found.update(naive=naive_probabilities(stock, one, mean, sample)),
            "alone": lambda: found.update(sweep=sweep([one], 1)),
            "batch": lambda: sweep(questions, 10**9),
            "plain": lambda: [plain_forward(stock, one) for _ in range(PLAIN_REPEATS)],
        },
        options.rounds,
    )
    times["naive"] *= len(heads) / len(sample)
    times["batch"] /= len(questions)
    times["plain"] /= PLAIN_REPEATS
    swept = found["sweep"].set_index(["layer", "head"])
    gap = max(abs(swept.p_patched[pair] - p) for pair, p in zip(sample, found["naive"], strict=True))
    largest = swept.effect[sample].abs().max()
    sizes = f"{len(sample)} heads, clean P {swept.p_clean.iloc[0]:.2g}, effects up to {largest:.1g}"
    return times, gap, sizes


def measure(
    tokens: int, engine: PrefixEngine, stock: PrefixEngine, tokenizer, options: argparse.Namespace
) -> list[Line]:
    """The lines of one prompt length."""
    questions, shots, name = prompts_of(tokens, tokenizer, options)
    times, gap, sizes = contest(engine, stock, questions, options)
    lengths = [len(q.context) for q in questions]
    total = engine.geometry.n_layers * engine.geometry.n_heads
    slow = f"{times['naive']:.1f} s a prompt (extrapolated linearly from {options.heads} of {total} heads)"
    print(
        f"{name}, {shots}-shot, {lengths} tokens: naive {slow}, sweep {times['alone']:.3f} s alone, "
        f"{times['batch']:.3f} s a prompt in a batch of {BATCH}, plain forward {times['plain']:.3f} s",
        flush=True,
    )
    label, naive, plain = f"{lengths[0]} tokens:", naive_bar(lengths[0]), plain_bar(lengths[0])
    return [
        Line(f"{label} one full forward per head / sweep", times["naive"] / times["alone"], "x", naive),
        Line(f"{label} the same, sweep in a batch of {BATCH}", times["naive"] / times["batch"], "x", naive),
        Line(f"{label} sweep / one plain forward", times["alone"] / times["plain"], "x", plain, False),
        Line(
            f"{label} the same, sweep in a batch of {BATCH}",
            times["batch"] / times["plain"],
            "x",
            plain,
            False,
        ),
        Line(f"{label} largest difference in P", gap, "", SAME, False, sizes),
    ]


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.add_argument(
        "--tokens",
        type=int,
        nargs="+",
        default=[100, 500],
        help="shortest prompts to use, in tokens (default: %(default)s)",
    )
    options.add_argument(
        "--shots", type=int, default=10, help="demonstrations, at least (default: %(default)s)"
    )
    options.add_argument(
        "--heads", type=int, default=15, help="heads timed on the slow side (default: %(default)s)"
    )
    options = options.parse_args()
    if options.heads < 1:
        raise UserError(f"--heads is {options.heads}: give 1 or more")
    model, tokenizer = start(options)
    sides = measuring_engine(options), PrefixEngine(model)
    lines = [line for tokens in options.tokens for line in measure(tokens, *sides, tokenizer, options)]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
