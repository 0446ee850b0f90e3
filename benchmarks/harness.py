"""The engine as a model of lm-evaluation-harness against its own class for models of transformers, in items
per second and choice by choice.

Three kinds of prompts: without demonstrations (HellaSwag), ten fixed demonstrations (ARC-Challenge), ten
drawn for every item (ARC-Challenge). Both sides are given the same requests (``loglikelihood``), end with a
choice and use the same model object. The harness's has the batch size that is fastest for it in a trial.
With built-in data other, shorter questions stand in: the bars are meant for --data. With --threads 1 the
processor's seconds count, so that it may run on a busy computer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import eq

from _common import Line, UserError, main, measuring_engine, parser, report, seconds, start, task_frame

from anamnesis.data.prompts import answer_text, draw_demonstrations, generator
from anamnesis.engine.prefix_engine import PrefixEngine

HARNESS = "0.4.13"
AGREEMENT = 0.995
ALL = 10**6  # more rows than any set has
TRIAL = 2  # items, at least, on which each batch size of the harness is tried; else a fifth of a round's
AHEAD = (
    8  # with fixed demonstrations ours gets this many times the items, so that their one-off cost is spread
)


@dataclass(frozen=True)
class Item:
    """A prompt and its possible answers, as text."""

    context: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Contest:
    """One kind of prompts. Both sides take ``items``; ``more`` are further ones only ours is timed on."""

    name: str
    items: list[Item]
    more: list[Item]
    bar: float


def multiple_choice(name: str, options, count: int, shots: int, fixed: bool) -> list[Item]:
    """``count`` test items in the question-then-answer form, after ``shots`` demonstrations."""
    frame = task_frame(name, options, count)
    test, train = frame[frame.split == "test"], frame[frame.split == "train"]
    pool = list(zip(train.knowledge_prompt, train.knowledge_target, strict=True))
    # questions of --data come with the words of the catalogue
    asked = "{}" if shots == 0 or options.data else "Question: {}\nAnswer:"
    items = []
    for number, row in enumerate(test.itertuples()):
        rng = generator(options.seed, name, "fixed" if fixed else number)
        avoid = "" if fixed else row.knowledge_prompt
        shown = [
            asked.format(x) + answer_text(y) for x, y in draw_demonstrations(rng, pool, shots, avoid, name)
        ]
        items.append(
            Item("\n\n".join([*shown, asked.format(row.knowledge_prompt)]), tuple(row.knowledge_choices))
        )
    return items


def sets(options: argparse.Namespace) -> tuple[str, str]:
    """The one without demonstrations, and the one with ten."""
    return ("hellaswag", "arc_challenge") if options.data else ("general_facts", "capital_choice")


def contests(options: argparse.Namespace) -> list[Contest]:
    """The three kinds of prompts, each with as many items as all rounds need."""
    story, questions = sets(options)
    n, m = options.items * options.rounds, options.shot_items * options.rounds
    fixed = multiple_choice(questions, options, m * AHEAD, 10, True)
    return [
        Contest(f"{story}, 0-shot", multiple_choice(story, options, n, 0, True), [], 2),
        Contest(f"{questions}, 10-shot, fixed demonstrations", fixed[:m], fixed[m:], 10),
        Contest(
            f"{questions}, 10-shot, drawn per item",
            multiple_choice(questions, options, m, 10, False),
            [],
            2.5,
        ),
    ]


Scorer = Callable[[Sequence[Item], int | str], list[tuple[float, ...]]]
"""(items, batch size) -> log-probability of every choice of every item."""


def sides(model, engine: PrefixEngine, tokenizer, budget: int) -> tuple[Scorer, Scorer]:
    """The engine, which makes its own batches of ``budget`` tokens, and the harness's own."""
    try:
        version = importlib.metadata.version("lm_eval")
        from lm_eval.models.huggingface import HFLM

        from anamnesis.evaluation.harness.model import EngineLM
    except ImportError as error:
        raise UserError(
            f"lm-evaluation-harness is not installed ({error}): pip install 'lm_eval=={HARNESS}'"
        ) from error
    if version != HARNESS:
        raise UserError(
            f"lm-evaluation-harness is {version}: the bars were set for {HARNESS}, install that version"
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    ours = EngineLM(engine, tokenizer, budget)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    return partial(scored, ours), partial(scored, theirs)


def scored(lm, items: Sequence[Item], batch_size: int | str) -> list[tuple[float, ...]]:
    from lm_eval.api.instance import Instance

    lm.batch_size_per_gpu = batch_size
    requests = [
        Instance("loglikelihood", {}, (item.context, answer_text(choice)), i)
        for item in items
        for i, choice in enumerate(item.choices)
    ]
    answers = iter(lm.loglikelihood(requests, disable_tqdm=True))
    return [tuple(p for p, _ in islice(answers, len(item.choices))) for item in items]


def fastest_batch(
    score: Scorer, items: Sequence[Item], sizes: Sequence[int | str], threads: int
) -> int | str:
    """The batch size with which the harness is fastest on ``items``."""
    score(items[:1], 1)  # warm up
    return min(sizes, key=lambda size: min(clocked(lambda: score(items, size), threads) for _ in range(2)))


def clocked(work: Callable[[], object], threads: int) -> float:
    """Seconds of one call; of one thread its own, without what other programs take."""
    if threads > 1:
        return seconds(work)
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(contest: Contest, ours: Scorer, theirs: Scorer, options) -> tuple[list[Line], list[bool]]:
    """Time both sides, on a part of the items in every round; the lines, and where both chose the same."""
    step, extra = len(contest.items) // options.rounds, len(contest.more) // options.rounds
    size = fastest_batch(theirs, contest.items[: max(TRIAL, step // 5)], options.batch_sizes, options.threads)
    rates, same, gap = {"ours": [], "theirs": []}, [], 0.0
    for number in range(options.rounds):
        part = contest.items[number * step : (number + 1) * step]
        more = contest.more[number * extra : (number + 1) * extra]
        found = {}
        sides = [
            (
                "ours",
                len(part) + len(more),
                lambda p=[*part, *more], f=found: f.update(ours=ours(p, 1)),
            ),
            ("theirs", len(part), lambda p=part, f=found: f.update(theirs=theirs(p, size))),
        ]
        for side, count, work in sides[:: 1 if number % 2 == 0 else -1]:
            rates[side].append(count / clocked(work, options.threads))
        for a, b in zip(found["ours"], found["theirs"], strict=False):
            same.append(a.index(max(a)) == b.index(max(b)))
            gap = max(gap, *(abs(x - y) for x, y in zip(a, b, strict=True)))
    mine, other = statistics.median(rates["ours"]), statistics.median(rates["theirs"])
    tried = ", ".join(map(str, options.batch_sizes))
    spread = f" (on {AHEAD} times the items)" if contest.more else ""
    print(
        f"{contest.name}: ours {mine:.2f} items/s{spread}, lm-evaluation-harness {other:.2f} items/s with "
        f"batch size {size} (best of {tried}); {len(same)} items scored by both, largest difference of a "
        f"log-probability {gap:.1e}",
        flush=True,
    )
    return [Line(f"{contest.name}: items per second", mine / other, "x", contest.bar)], same


def accuracies(options: argparse.Namespace, ours: Scorer, theirs: Scorer) -> tuple[list[Line], list[bool]]:
    """Of the first test rows of the set with the shorter questions, without demonstrations, in the order of
    their file: by sums, and by sums per character, on both sides; the lines, and where both chose the same.
    """
    name = sets(options)[1]
    rows = task_frame(name, options, ALL)
    rows = rows[rows.split == "test"]
    number = rows.example_id.str.rpartition("-")[2].astype(int)
    rows = rows.loc[number.sort_values().index].iloc[: options.accuracy_rows]
    items = [Item(r.knowledge_prompt, tuple(r.knowledge_choices)) for r in rows.itertuples()]
    found = {"ours": ours(items, 1), "theirs": theirs(items, 1)}
    lines, same = [], []
    for rule in ("sum", "per_character"):
        choices = {
            side: [best(s, i, rule) for s, i in zip(f, items, strict=True)] for side, f in found.items()
        }
        right = {
            side: sum(map(eq, chosen, rows.knowledge_target)) / len(rows) for side, chosen in choices.items()
        }
        note = f"lm-evaluation-harness {right['theirs']:.3f}, {len(rows)} rows"
        lines.append(Line(f"{name}, 0-shot: accuracy, {rule}", right["ours"], "", note=note))
        same += map(eq, *choices.values())
    return lines, same


def best(sums: Sequence[float], item: Item, rule: str) -> str:
    """The option with the highest score."""
    scores = [
        s / len(text) if rule == "per_character" else s for s, text in zip(sums, item.choices, strict=True)
    ]
    return item.choices[scores.index(max(scores))]


def batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.add_argument(
        "--items", type=int, default=50, help="items a round without demonstrations (default: %(default)s)"
    )
    options.add_argument(
        "--shot-items",
        type=int,
        default=8,
        help="items a round with ten demonstrations (default: %(default)s)",
    )
    options.add_argument(
        "--accuracy-rows",
        type=int,
        default=500,
        help="rows whose accuracy is compared (default: %(default)s)",
    )
    options.add_argument(
        "--budget", type=int, default=1024, help="tokens of one forward pass of ours (default: %(default)s)"
    )
    options.add_argument(
        "--batch-sizes",
        type=batch_size,
        nargs="+",
        default=[1, 4, 8],
        help="batch sizes the harness may choose from: numbers, auto (default: %(default)s)",
    )
    options = options.parse_args()
    model, tokenizer = start(options)
    ours, theirs = sides(model, measuring_engine(options), tokenizer, options.budget)
    lines, same = [], []
    for contest in contests(options):
        found, agreed = compare(contest, ours, theirs, options)
        lines, same = lines + found, same + agreed
    print("timed; what follows compares choices and accuracy", flush=True)
    found, agreed = accuracies(options, ours, theirs)
    lines, same = lines + found, same + agreed
    share = sum(same) / len(same)
    lines.append(Line("same choice", share, "", AGREEMENT, True, f"{sum(same)} of {len(same)} items"))
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
