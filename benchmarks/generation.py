"""Generation with batches and shared prefixes against ``model.generate``, one prompt after the other and in
padded batches of the size that is fastest.

Few-shot prompts of several tasks, as the evaluation asks them; all sides decode greedily on the same model
object up to a line break, the end of the text or ``--max-new-tokens``, and the lines they write are compared.
Every round takes its share of the prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from _common import Line, interleaved, main, parser, report, seconds, start, task_frame
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
    """Ends each row of transformers' generation where ours ends. ``prompt``: tokens before the answers."""

    def __init__(self, stop: LineEnd, prompt: int):
        self.stop, self.prompt = stop, prompt

    def __call__(self, input_ids, scores, **options) -> torch.Tensor:
        ended = [self.stop(row) for row in input_ids[:, self.prompt :].tolist()]
        return torch.tensor(ended, device=input_ids.device)


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


def stock(model, stop: LineEnd, prompts: Prompts, length: int, rows: int) -> list[str]:
    """What ``model.generate`` writes behind each prompt: ``rows`` of a task at a time, padded on the left."""
    return [
        stop.text(ids)
        for part in prompts
        for start in range(0, len(part), rows)
        for ids in _generated(model, stop, part[start : start + rows], length)
    ]


@torch.no_grad()
def _generated(model, stop: LineEnd, prompts: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    pad, longest = model.config.eos_token_id, max(map(len, prompts))
    ids = torch.tensor([[*[pad] * (longest - len(prompt)), *prompt] for prompt in prompts])
    before = torch.tensor([[longest - len(prompt)] for prompt in prompts])
    written = model.generate(
        ids,
        attention_mask=(torch.arange(longest) >= before).long(),
        max_new_tokens=length,
        do_sample=False,
        pad_token_id=pad,
        stopping_criteria=StoppingCriteriaList([AtLineEnd(stop, longest)]),
    )
    # a row that has ended is padded while others go on
    return [_until(stop, row) for row in written[:, longest:].tolist()]


def _until(stop: LineEnd, ids: Sequence[int]) -> list[int]:
    """The ids up to the one at which the answer ends."""
    for count in range(1, len(ids)):
        if stop(ids[:count]):
            return list(ids[:count])
    return list(ids)


def best_batch(model, stop: LineEnd, prompts: Prompts, length: int, sizes: Sequence[int]) -> int:
    """The batch size at which ``model.generate`` is fastest, by one trial of each on the same prompts."""
    return min(sizes, key=lambda rows: seconds(lambda: stock(model, stop, prompts, length, rows)))


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
    options.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32], help="tried for model.generate"
    )
    options.add_argument("--trial", type=int, default=32, help="prompts of each task that sizes are tried on")
    options = options.parse_args()
    model, tokenizer = start(options)
    engine, stop, length = PrefixEngine(model), LineEnd(tokenizer), options.max_new_tokens
    prompts = few_shot_prompts(options, tokenizer)
    stock(model, stop, [prompts[0][:1]], length, 1)  # warm up
    rows = best_batch(model, stop, [part[: options.trial] for part in prompts], length, options.batch_sizes)
    shares = [[part[n :: options.rounds] for part in prompts] for n in range(options.rounds)]
    writers = {
        "ours": lambda p: ours(engine, stop, p, length, options.budget),
        "one by one": lambda p: stock(model, stop, p, length, 1),
        "batched": lambda p: stock(model, stop, p, length, rows),
    }
    texts: dict[str, list[str]] = {name: [] for name in writers}
    sides = {name: taking_turns(shares, write, texts[name]) for name, write in writers.items()}
    spent = interleaved(sides, options.rounds)
    lines = []
    for name, note in (("one by one", ""), ("batched", f"batches of {rows}")):
        same = [a == b for a, b in zip(texts["ours"], texts[name], strict=True)]
        lines += [
            Line(f"generation: {name} / ours", spent[name] / spent["ours"], "x", FASTER, note=note),
            Line(
                f"identical text, {name}", sum(same) / len(same), "", SAME, note=f"{sum(same)} of {len(same)}"
            ),
        ]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
