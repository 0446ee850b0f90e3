"""Few-shot evaluation of MMLU's social sciences: shared prefixes against plain batches of whole sequences.

Ten demonstrations, the same for all rows or drawn for each; the options are letters. The plain side runs one
sequence for each option of each row, sorted by length, padded, in batches of the size that is fastest for it
in a trial. It is timed on the first rows of a round, ``--plain-rows`` in all, as its time per row does not
depend on their number; ours on all of them.
With built-in data shorter questions stand in: the bars are meant for --data.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from _common import Line, main, measuring_engine, parser, report, seconds, start, task_frame

from anamnesis.data.encoding import encode_pairs
from anamnesis.data.prompts import Template, draw_demonstrations, generator
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions

SHOTS = 10
AGREEMENT = 0.995
TRIAL = 2  # rows on which each batch size is tried


@dataclass(frozen=True)
class Contest:
    """Rows with one kind of demonstrations, and how much faster ours has to be."""

    name: str
    questions: list[Question]
    bar: float


def questions_of(options: argparse.Namespace, tokenizer, rows: int, fixed: bool) -> list[Question]:
    """The first ``rows`` sampled test rows with their demonstrations."""
    name, template = "mmlu_social" if options.data else "capital_choice", Template()
    frame = task_frame(name, options, rows)
    train = frame[frame.split == "train"]
    pool, texts, answers = list(zip(train.input, train.target, strict=True)), [], []
    for number, row in enumerate(frame[frame.split == "test"].itertuples()):
        rng = generator(options.seed, name, "fixed" if fixed else number)
        shown = draw_demonstrations(rng, pool, SHOTS, "" if fixed else row.input, name)
        texts += [template.render(row.instruction, shown, row.input)] * len(row.choices)
        answers.append([template.before_answer + choice for choice in row.choices])
    pairs = iter(encode_pairs(tokenizer, texts, [text for options in answers for text in options]))
    found = []
    for row in answers:
        encoded = [next(pairs) for _ in row]
        found.append(Question(encoded[0][0], [answer for _, answer in encoded]))
    return found


@torch.no_grad()
def plain(model, questions: Sequence[Question], batch_size: int) -> list[list[float]]:
    """Log-probabilities of all continuations by padded batches of whole sequences."""
    flat = [(q, i, [*question.context, *c]) for q, question in enumerate(questions)
            for i, c in enumerate(question.continuations)]  # fmt: skip
    flat.sort(key=lambda sequence: len(sequence[2]), reverse=True)
    found = [[0.0] * len(question.continuations) for question in questions]
    for at in range(0, len(flat), batch_size):
        batch = flat[at : at + batch_size]
        ids = torch.zeros(len(batch), len(batch[0][2]), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (_, _, tokens) in enumerate(batch):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, (q, i, tokens) in enumerate(batch):
            wanted = torch.tensor(questions[q].continuations[i])
            scores = logits[row, len(tokens) - len(wanted) - 1 : len(tokens) - 1].float().log_softmax(-1)
            found[q][i] = float(scores.gather(1, wanted[:, None]).sum())
    return found


def compare(contest: Contest, engine: PrefixEngine, model, options) -> tuple[list[Line], list[bool]]:
    """Time both sides in every round; the lines, and where both chose the same."""
    trial = contest.questions[:TRIAL]
    plain(model, trial[:1], 1)  # warm up
    size = min(options.batch_sizes, key=lambda s: seconds(lambda: plain(model, trial, s)))
    rates, same, gap = {"ours": [], "plain": []}, [], 0.0
    for number in range(options.rounds):
        part = contest.questions[number :: options.rounds]
        few = part[: -(-options.plain_rows // options.rounds)]
        found = {}
        sides = [
            (
                "ours",
                len(part),
                lambda p=part, f=found: f.update(ours=score_questions(engine, p, options.budget)),
            ),
            ("plain", len(few), lambda p=few, f=found: f.update(plain=plain(model, p, size))),
        ]
        for side, count, work in sides[:: 1 if number % 2 == 0 else -1]:
            rates[side].append(count / seconds(work))
        for score, theirs in zip(found["ours"], found["plain"], strict=False):
            mine = score.log_probability
            same.append(mine.index(max(mine)) == theirs.index(max(theirs)))
            gap = max(gap, *(abs(a - b) for a, b in zip(mine, theirs, strict=True)))
    ours, other = (statistics.median(rates[side]) for side in ("ours", "plain"))
    print(
        f"{contest.name}: ours {ours:.2f} rows/s on {len(contest.questions)}, plain {other:.3f} rows/s on "
        f"{len(same)} in batches of {size}; largest difference of a log-probability {gap:.1e}",
        flush=True,
    )
    return [Line(f"{contest.name}: rows per second", ours / other, "x", contest.bar)], same


def run() -> int:
    options = parser(__doc__.splitlines()[0])
    options.add_argument(
        "--rows", type=int, default=1000, help="rows with fixed demonstrations (default: %(default)s)"
    )
    options.add_argument(
        "--drawn-rows", type=int, default=60, help="rows with drawn ones (default: %(default)s)"
    )
    options.add_argument(
        "--plain-rows", type=int, default=12, help="rows the plain side is timed on (default: %(default)s)"
    )
    options.add_argument(
        "--budget", type=int, default=1024, help="tokens of one forward pass of ours (default: %(default)s)"
    )
    options.add_argument(
        "--batch-sizes",
        type=int,
        nargs="+",
        default=[1, 4, 8],
        help="of the plain side (default: %(default)s)",
    )
    options = options.parse_args()
    model, tokenizer = start(options)
    engine, lines, same = measuring_engine(options), [], []
    for kind, rows, bar in (("drawn for each row", options.drawn_rows, 4.0), ("fixed", options.rows, 8.0)):
        questions = questions_of(options, tokenizer, rows, kind == "fixed")
        contest = Contest(f"{SHOTS}-shot, demonstrations {kind}", questions, bar)
        found, agreed = compare(contest, engine, model, options)
        lines, same = lines + found, same + agreed
    share = sum(same) / len(same)
    lines.append(Line("same choice", share, "", AGREEMENT, note=f"{sum(same)} of {len(same)} rows"))
    return report(lines, options.output)


if __name__ == "__main__":
    main(run)
