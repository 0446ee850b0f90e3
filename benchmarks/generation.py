"""Generation with batches and shared prefixes against ``model.generate`` on one prompt after the other.

Few-shot prompts of several tasks, as the evaluation asks them; both sides decode greedily on the same model
object up to a line break, the end of the text or ``--max-new-tokens``, and the lines they write are compared.
Every round takes its share of the prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from _common import Line, interleaved, main, parser, report, start, task_frame
from transformers import StoppingCriteria, StoppingCriteriaList

from anamnesis.data.encoding import encode
from anamnesis.data.prompts import Template
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.items import build_items

BUILT_IN = ("antonym", "past_tense", "plural", "country_capital")
IN_FOLDER = ("antonym", "english-spanish", "english-german", "choose_last_of_5")
FASTER, SAME = 5.0, 0.99  # bars

Prompts = list[list[list[int]]]  # of each task, token ids


class AtLineEnd(StoppingCriteria):
    """Ends transformers' generation where ours ends."""

    def __init__(self, stop: LineEnd, prompt: int):
        self.stop, self.prompt = stop, prompt

    def __call__(self, input_ids, scores, **options) -> torch.Tensor:
        ended = self.stop(input_ids[0, self.prompt :].tolist())
        return torch.tensor([ended], device=input_ids.device)


def few_shot_prompts(options: argparse.Namespace, tokenizer) -> Prompts:
    """The same number of prompts of each task, ``--items`` in all, or as many as there are."""
    tasks = options.tasks or (IN_FOLDER if options.data else BUILT_IN)
    found = []
    for name in tasks:
        frame = task_frame(name, options, -(-options.items // len(tasks)))
        items = build_items(frame, name, "instruction", options.shots, Template(), options.seed)
        found.append(encode(tokenizer, [item.prompt for item in items]))
    return found


def ours(engine: PrefixEngine, stop: LineEnd, prompts: Prompts, length: int, budget: int) -> list[str]:
    answers = generate(engine, [Request(part, length) for part in prompts], stop, budget)
    return [stop.text(ids) for ids in chain.from_iterable(answers)]


@torch.no_grad()
def one_by_one(model, stop: LineEnd, prompts: Prompts, length: int) -> list[str]:
    """What ``model.generate`` writes behind each prompt."""
    return [stop.text(_generated(model, stop, prompt, length)) for prompt in chain.from_iterable(prompts)]


def _generated(model, stop: LineEnd, prompt: Sequence[int], length: int) -> list[int]:
    ids = torch.tensor([prompt])
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        do_sample=False,
        pad_token_id=model.config.eos_token_id,
        stopping_criteria=StoppingCriteriaList([AtLineEnd(stop, len(prompt))]),
    )
    return written[0, len(prompt) :].tolist()


def taking_turns(
    shares: Sequence[Prompts], write: Callable[[Prompts], list[str]], into: list[str]
) -> Callable:
    """A side of the comparison: every call writes the answers to the next share of the prompts."""
    left = iter(shares)
    return lambda: into.extend(write(next(left)))


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--items", type=int, default=200, help="prompts in all (default: %(default)s)")
    options.add_argument("--tasks", nargs="+", help="tasks with written answers (default: four)")
    options.add_argument("--shots", type=int, default=5, help="demonstrations (default: %(default)s)")
    options.add_argument(
        "--max-new-tokens", type=int, default=50, help="longest answer in tokens (default: %(default)s)"
    )
    options.add_argument(
        "--budget", type=int, default=2048, help="prompt tokens of one batch of ours (default: %(default)s)"
    )
    options = options.parse_args()
    model, tokenizer = start(options)
    engine, stop, length = PrefixEngine(model), LineEnd(tokenizer), options.max_new_tokens
    prompts = few_shot_prompts(options, tokenizer)
    one_by_one(model, stop, [prompts[0][:1]], length)  # warm up
    shares = [[part[n :: options.rounds] for part in prompts] for n in range(options.rounds)]
    mine, theirs = [], []
    sides = {
        "ours": taking_turns(shares, lambda p: ours(engine, stop, p, length, options.budget), mine),
        "theirs": taking_turns(shares, lambda p: one_by_one(model, stop, p, length), theirs),
    }
    spent = interleaved(sides, options.rounds)
    same = [a == b for a, b in zip(mine, theirs, strict=True)]
    lines = [
        Line("generation: one by one / ours", spent["theirs"] / spent["ours"], "x", FASTER),
        Line("identical text", sum(same) / len(same), "", SAME, note=f"{sum(same)} of {len(same)} items"),
    ]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
