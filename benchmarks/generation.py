"""Generation with batches and shared prefixes against ``model.generate``, one prompt after the other and in
padded batches of the size that is fastest.

Few-shot prompts of several tasks, as the evaluation asks them; all sides decode greedily with the same
weights up to a line break, the end of the text or ``--max-new-tokens``, and what they write is compared.
Every round takes all prompts, and one by one its share of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain, islice

import torch
from _common import Line, interleaved, main, measuring_engine, parser, report, seconds, start, task_frame
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


def every_nth(parts: Sequence[list], shares: int) -> list[list[list]]:
    """Of every task each n-th prompt: a share for each place to begin at."""
    return [[part[n::shares] for part in parts] for n in range(shares)]


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
        "--batch-sizes", type=int, nargs="+", default=[8, 16, 32, 64], help="tried for model.generate"
    )
    options.add_argument("--trial", type=int, default=50, help="prompts of each task that sizes are tried on")
    options = options.parse_args()
    model, tokenizer = start(options)
    engine, stop, length = measuring_engine(options), LineEnd(tokenizer), options.max_new_tokens
    prompts = few_shot_prompts(options, tokenizer)
    ours(engine, stop, [prompts[0][:1]], length, options.budget)  # warm up
    stock(model, stop, [prompts[0][:1]], length, 1)
    rows = best_batch(model, stop, [part[: options.trial] for part in prompts], length, options.batch_sizes)
    shares = iter(every_nth(prompts, options.rounds))
    texts: dict[str, list[str]] = {"ours": [], "one by one": [], "batched": []}
    sides = {
        "ours": lambda: texts.update(ours=ours(engine, stop, prompts, length, options.budget)),
        "one by one": lambda: texts["one by one"].extend(stock(model, stop, next(shares), length, 1)),
        "batched": lambda: texts.update(batched=stock(model, stop, prompts, length, rows)),
    }
    spent = interleaved(sides, options.rounds)
    spent["one by one"] *= options.rounds
    of_task = iter(texts["ours"])
    parts = every_nth([list(islice(of_task, len(part))) for part in prompts], options.rounds)
    expected = {"one by one": [*chain.from_iterable(chain.from_iterable(parts))], "batched": texts["ours"]}
    lines = [Line("generation: ours", spent["ours"], "s", note=f"{len(texts['ours'])} prompts")]
    for name, note in (("one by one", ""), ("batched", f"batches of {rows}")):
        same = [a == b for a, b in zip(expected[name], texts[name], strict=True)]
        lines += [
            Line(f"generation: {name} / ours", spent[name] / spent["ours"], "x", FASTER, note=note),
            Line(
                f"identical text, {name}", sum(same) / len(same), "", SAME, note=f"{sum(same)} of {len(same)}"
            ),
        ]
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
