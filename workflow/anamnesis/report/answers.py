"""The report's section on answers before and after training, and the data of the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.figures.style import readable
from anamnesis.report.builder import Section, Table
from anamnesis.report.sentences import asked, percent
from anamnesis.stats.answer_changes import CHAIN, KINDS, QUESTION, collapses

MOST_ROWS = 12_000
"""Rows for the table that one can filter, about 1.5 MB; the CSV has all."""

EXAMPLES = 2  # of lost answers that a page without scripts shows of each set
MOST_SENTENCES = 4  # on sets whose lost answers became one and the same
KIND_NAMES = {
    "lost": "lost",
    "returned": "lost and back",
    "gained": "gained",
    "passing": "learnt, then lost",
    "kept": "right throughout",
    "never": "wrong throughout",
}
_RIGHT = {"right": 1, "wrong": 0}


@dataclass(frozen=True, slots=True)
class Answers:
    """The tables of ``stats.answer_changes``. ``orders``: the tasks of each order; ``gains``: accuracy with
    vectors after training (``stats.vector_recovery.recovery_gain``), if any.
    """

    changes: pd.DataFrame
    shares: pd.DataFrame
    counts: pd.DataFrame
    orders: Sequence[Sequence[str]] = ()
    gains: pd.DataFrame | None = None


def answers_section(answers: Answers, links: Mapping) -> Section | None:
    """Which answers changed, from what to what; None for a run that has no records."""
    if answers.shares.empty:
        return None
    guided = answers.changes["method"].str.endswith(GUIDED_SUFFIX).any()
    paragraphs = [
        "Every question is asked before training and after every stage. An answer is lost when it was right "
        "before training and is wrong after the last stage, gained when it is the other way round.",
        *collapse_sentences(answers.counts),
    ]
    if guided and answers.gains is not None:
        paragraphs.append(
            "With the vector: whether the model after the last stage begins with the right answer when the "
            "instruction vector of the model before training is added."
        )
    return Section(
        "Answers before and after",
        paragraphs=paragraphs,
        answers=browser_data(answers),
        tables=[_share_table(answers.shares), _example_table(answers.changes), _count_table(answers.counts)],
        links=links,
    )


def collapse_sentences(counts: pd.DataFrame) -> list[str]:
    """Sets whose lost answers became one and the same answer: those with most of them."""
    found = collapses(counts).sort_values("lost", ascending=False, kind="stable").head(MOST_SENTENCES)
    if found.empty:
        return []
    parts = [
        f"{readable(row.set)} with {row.method} ({asked(row.form, row.shots)}): "
        f"{_of_all(row.lost_to, row.lost)} became “{row.answer or '(empty)'}”"
        for row in found.itertuples()
    ]
    return ["Where lost answers became one and the same: " + "; ".join(parts) + "."]


def _of_all(count: int, total: int) -> str:
    return f"all {total}" if count == total else f"{count} of {total}"


def browser_data(answers: Answers) -> dict:
    """What ``templates/answers.js`` reads: texts once, rows as indices into them.

    A row is [set, asked, method, order, seed, kind, question, target, [answers], [right: 1, 0, or null where
    it was not asked], guided answer or null, whether that is right, whether the answer with the vector is].
    """
    texts: dict[str, int] = {}

    changes = fitting(answers.changes)
    rows = _answer_rows(changes, lambda text: texts.setdefault(str(text), len(texts)))
    first = answers.changes.drop_duplicates("set")
    return {
        "start": _start(answers.changes),
        "kinds": {kind: [KIND_NAMES[kind], meaning] for kind, meaning in KINDS.items()},
        "orders": [[readable(task) for task in order] for order in answers.orders],
        "stages": len(_stages(changes)),
        "instructions": {row["set"]: row["instruction"] for row in first.to_dict("records")},
        "rows": rows,
        "left_out": len(answers.changes) - len(rows),
        "shares": _share_rows(answers.shares),
        "counts": _count_rows(answers.counts),
        "vector": _with_vector(answers.gains),
        "texts": list(texts),
    }


def _stages(changes: pd.DataFrame) -> list[str]:
    return [name for name in changes.columns if name.startswith("stage_")]


def _answer_rows(changes: pd.DataFrame, index: Callable[[object], int]) -> list[list]:
    return [
        [
            index(row["set"]), index(asked(row["form"], row["shots"])), index(row["method"]), row["order"],
            row["seed"], row["kind"], index(row["question"]), index(row["target"]),
            [index(row[name]) for name in ("before", *_stages(changes))],
            [_RIGHT.get(word) for word in row["course"].split(" ")],
            index(row["guided"]) if row["guided_is"] else None, _RIGHT.get(row["guided_is"]),
            _RIGHT.get(row["with_vector"]),
        ]
        for row in changes.to_dict("records")
    ]  # fmt: skip


def _share_rows(shares: pd.DataFrame) -> list[list]:
    return [
        [
            row["set"],
            asked(row["form"], row["shots"]),
            *(row[c] for c in CHAIN),
            row["n"],
            *(row[k] for k in KINDS),
        ]
        for row in shares.to_dict("records")
    ]


def _count_rows(counts: pd.DataFrame) -> list[list]:
    return [
        [row["set"], asked(row["form"], row["shots"]), row["method"], row["answer"],
         *(row[name] for name in ("target", "before", "after", "lost_to", "lost"))]
        for row in counts.to_dict("records")
    ]  # fmt: skip


def _start(changes: pd.DataFrame) -> dict[str, str]:
    """What the table shows at first: the held-out set that lost most, of the first method."""
    lost = changes[changes["kind"] == "lost"]
    for rows in (lost[lost["role"] == "held_out"], lost, changes):
        zero = rows[(rows["form"] == "instruction") & (rows["shots"] == 0)]
        if len(zero):
            first = zero[zero["method"] == zero["method"].iloc[0]]
            return {
                "set": first["set"].value_counts().index[0], "asked": asked("instruction", 0),
                "method": first["method"].iloc[0], "kind": first["kind"].iloc[0],
            }  # fmt: skip
    return {}


def fitting(changes: pd.DataFrame) -> pd.DataFrame:
    """At most ``MOST_ROWS`` rows: of every chain, set and form the same number of first questions."""
    if len(changes) <= MOST_ROWS:
        return changes
    place = changes.groupby([*CHAIN, *QUESTION], sort=False).cumcount()
    most = int(place.value_counts().sort_index().cumsum().le(MOST_ROWS).sum())
    return changes[place < most] if most else changes.head(MOST_ROWS)


def _with_vector(gains: pd.DataFrame | None) -> dict[str, list[str]]:
    """ "set|method" -> accuracy after training without and with the instruction vector, as text."""
    if gains is None:
        return {}
    return {f"{row.set}|{row.method}": [percent(row.after), percent(row.added)] for row in gains.itertuples()}


def _share_table(shares: pd.DataFrame) -> Table:
    """Of every set and method: the share of questions of each kind, over all chains."""
    totals = shares.groupby(["method", *QUESTION], sort=False)[["n", *KINDS]].sum().reset_index()
    rows = [
        [
            readable(row["set"]), asked(row["form"], row["shots"]), row["method"],
            *(percent(row[kind] / row["n"]) for kind in KINDS), row["n"],
        ]
        for row in totals.to_dict("records")
    ]  # fmt: skip
    header = ["Set", "Asked as", "Method", *(KIND_NAMES[kind].capitalize() for kind in KINDS), "n"]
    caption = "Share of each kind of change, set by set; n: questions times chains"
    return Table(header, rows, caption, kind="text", folded=True)


def _example_table(changes: pd.DataFrame) -> Table:
    """Lost answers to zero-shot instructions, the first of every set: for a page without scripts."""
    lost = changes[(changes["kind"] == "lost") & (changes["form"] == "instruction") & (changes["shots"] == 0)]
    plain = lost[lost["method"] == lost["method"].iloc[0]] if len(lost) else lost
    last = changes.columns[changes.columns.str.startswith("stage_")].max()
    rows = [
        [readable(row["set"]), row["question"], row["target"], row["before"], row[last], row["guided"] or "–"]
        for row in plain.groupby("set", sort=False).head(EXAMPLES).to_dict("records")
    ]
    method = f" with {plain['method'].iloc[0]}" if len(plain) else ""
    header = ["Set", "Question", "Right answer", "Before training", "After the last stage", "With guidance"]
    return Table(header, rows, f"Examples of answers that were lost{method}", kind="text", folded=True)


def _count_table(counts: pd.DataFrame) -> Table:
    """What was answered, over all chains: sets with few different answers, and what lost answers became."""
    few = counts.groupby(["method", *QUESTION])["answer"].transform("size") <= 6
    shown = counts[(few | (counts["lost_to"] > 1)) & (counts["form"] == "instruction")]
    rows = [
        [
            readable(row["set"]), asked(row["form"], row["shots"]), row["method"],
            row["answer"] or "(empty)",
            *(row[name] for name in ("target", "before", "after", "lost_to")),
        ]
        for row in shown.to_dict("records")
    ]  # fmt: skip
    header = [
        "Set",
        "Asked as",
        "Method",
        "Answer",
        "Is right",
        "Before",
        "After",
        "Lost answers that became it",
    ]
    caption = "How often each answer is right and was given, and what lost answers became (all chains)"
    return Table(header, rows, caption, kind="text", folded=True)
