"""Which answers changed while chains were trained: question by question, counted, and what they became."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from anamnesis.core.artifacts import read_batches, read_parquet
from anamnesis.core.names import GUIDED_SUFFIX

RIGHT = 0.5
"""Least score of a right answer. Exact match and options give 0 or 1; graded metrics lie between."""

KINDS = {
    "lost": "right before training, wrong after the last stage",
    "returned": "right before and after, wrong in between",
    "gained": "wrong before training, right after the last stage",
    "passing": "wrong before and after, right in between",
    "kept": "right throughout",
    "never": "wrong throughout",
}
CHANGED = ("lost", "returned", "gained", "passing")
QUESTION = ["set", "role", "form", "shots"]
CHAIN = ["method", "order", "seed"]
MOST_ANSWERS = 12  # of a set that are counted one by one
MOST_QUESTIONS = 20_000  # of an evaluation, the first: the tables must fit in memory
MOST_CHARACTERS = 400  # of a text; the whole one is in the prepared task
_KEYS = [*QUESTION, "example_id"]
_NO_QUESTION = pd.DataFrame(
    columns=["set", "form", "example_id", "instruction", "question"], dtype="str"
)  # for runs of which only the records are there
_TEXTS = (
    "kind", "course", "instruction", "question", "target", "before", "guided", "guided_is", "with_vector",
)  # fmt: skip


def answer_tables(
    evaluations: Sequence[str],
    chains: Sequence[Mapping],
    stages: int,
    tasks: Sequence[str],
    recovered: Sequence[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What became of every answer. No interval is given: questions of a set are not independent draws.

    Parameters
    ----------
    evaluations : records of the stages 0 to ``stages`` of each chain, chain after chain.
    chains : their method, order and seed.
    tasks, recovered : prepared tasks, named after their sets, and tables of the rule ``recover``.

    Returns
    -------
    changes : a row for each chain and question whose answer became right or wrong (``CHANGED``): ``method,
        order, seed, set, role, form, shots, example_id, kind, course`` (right or wrong at every stage, a dash
        where it was not asked), ``instruction, question, target, before, stage_1, …``: the answers, and
        ``guided``: that after the last stage of the guided chain of the same order and seed, and
        ``guided_is`` (right or wrong); ``with_vector``: whether the model after the last stage begins with
        the right answer when the instruction vector is added (empty where that was not asked).
    shares : a row for each chain, set, form and number of shots: ``n`` questions, and how many are of each
        kind (``KINDS``).
    counts : for each method, set, form, shots and answer, over all chains: how often it is right
        (``target``), was given ``before`` and ``after``, and how many of the ``lost`` answers became it
        (``lost_to``); the most frequent ``MOST_ANSWERS``.

    Of an evaluation with more than ``MOST_QUESTIONS`` records the first are counted.
    """
    if not chains:
        nothing = pd.DataFrame(columns=[*CHAIN, *QUESTION])
        return nothing, nothing, nothing
    asked = pd.concat([_NO_QUESTION, *map(_questions, tasks)], ignore_index=True)
    courses = [
        pd.DataFrame(_course(evaluations[i * (stages + 1) : (i + 1) * (stages + 1)])).assign(**chain)
        for i, chain in enumerate(chains)
    ]
    whole = pd.concat(courses, ignore_index=True)
    changes = _changes(whole, asked, _with_vector(recovered, tasks), stages)
    return changes, _shares(whole), _counts(whole, stages)


def read_changes(path: str | Path) -> pd.DataFrame:
    """The table of changes from its CSV: an answer such as "NA" stays a text."""
    header = pd.read_csv(path, nrows=0).columns
    texts = [name for name in header if name in (*_TEXTS, "set", "example_id") or name.startswith("stage_")]
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False)


def read_counts(path: str | Path) -> pd.DataFrame:
    """The table of counts, or that of shares, from its CSV."""
    return pd.read_csv(path, dtype={"answer": str, "set": str}, keep_default_na=False)


def _course(paths: Sequence[str]) -> pd.DataFrame:
    """A row for each question: ``_KEYS``, target, before, stage_1 …, course, kind."""
    parts = [_answers(path) for path in paths]
    table = parts[0][["target"]].copy()
    right = pd.DataFrame({stage: part["right"] for stage, part in enumerate(parts)}, index=table.index)
    for stage, part in enumerate(parts):
        table[f"stage_{stage}" if stage else "before"] = part["prediction"].reindex(table.index).fillna("")
    words = right.replace({1.0: "right", 0.0: "wrong"}).astype(object).where(right.notna(), "–")
    return table.assign(course=words.agg(" ".join, axis=1), kind=_kinds(right)).reset_index()


def _kinds(right: pd.DataFrame) -> np.ndarray:
    """``right``: 1 or 0 in a column per stage, NaN where a set was not asked; the kind of each row."""
    first, last = right.iloc[:, 0] == 1, right.iloc[:, -1] == 1
    always, ever = right.min(axis=1) == 1, right.max(axis=1) == 1
    cases = [always, first & last, first, last, ever]
    return np.select(cases, ["kept", "returned", "lost", "gained", "passing"], "never")


@cache  # the evaluation before training is part of every chain
def _answers(path: str) -> pd.DataFrame:
    parts, count = [], 0
    for part in read_batches(path, [*_KEYS, "prediction", "target", "score"]):
        parts.append(part)
        count += len(part)
        if count >= MOST_QUESTIONS:
            break
    rows = pd.concat(parts, ignore_index=True).head(MOST_QUESTIONS)
    rows = rows.assign(right=(rows["score"] >= RIGHT).astype(float))
    return rows.set_index(_KEYS)[["prediction", "target", "right"]]


def _questions(path: str) -> pd.DataFrame:
    """What a prepared task may ask in an evaluation: ``set, form, example_id, instruction, question``."""
    columns = ["split", "example_id", "instruction", "input", "knowledge_prompt"]
    rows = read_parquet(path, columns)
    rows = rows[rows["split"] != "train"]
    forms = {"instruction": rows["input"], "knowledge": rows["knowledge_prompt"]}
    parts = [
        pd.DataFrame(
            {
                "set": Path(path).stem,
                "form": form,
                "example_id": rows["example_id"],
                "instruction": rows["instruction"].map(_shortened) if form == "instruction" else "",
                "question": texts.fillna("").map(_shortened),
            }
        )
        for form, texts in forms.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _with_vector(recovered: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    """``CHAIN``, ``_KEYS`` and ``with_vector``: the first test examples of a task, zero-shot."""
    asked = {Path(path).stem: read_parquet(path, ["split", "example_id"]) for path in tasks}
    names = {name: task.loc[task["split"] == "test", "example_id"] for name, task in asked.items()}
    rows = []
    for path in recovered:
        table = read_parquet(path)
        for row in table[table["condition"] == "add"].to_dict("records"):
            chain = [row[key] for key in (*CHAIN, "set")]
            rows += [
                (*chain, "instruction", 0, name, "right" if right else "wrong")
                for name, right in zip(names[row["set"]], row["right"], strict=False)
            ]
    return pd.DataFrame(rows, columns=[*CHAIN, "set", "form", "shots", "example_id", "with_vector"])


def _changes(whole: pd.DataFrame, asked: pd.DataFrame, vectors: pd.DataFrame, stages: int) -> pd.DataFrame:
    guided = whole[whole["method"].str.endswith(GUIDED_SUFFIX)]
    guided = guided[[*CHAIN, *_KEYS]].assign(
        method=guided["method"].str.removesuffix(GUIDED_SUFFIX),
        guided=guided[f"stage_{stages}" if stages else "before"],
        guided_is=guided["course"].str.split(" ").str[-1],
    )
    rows = whole[whole["kind"].isin(CHANGED)].merge(guided, "left", [*CHAIN, *_KEYS])
    rows = rows.merge(asked, "left", ["set", "form", "example_id"])
    keys = [key for key in vectors.columns if key != "with_vector"]
    types = {key: rows[key].dtype for key in keys}  # an empty table has none
    rows = rows.merge(vectors.astype(types), "left", keys)
    answers = [
        "before",
        *(f"stage_{stage}" for stage in range(1, stages + 1)),
        "guided",
        "guided_is",
        "with_vector",
    ]
    columns = [*CHAIN, *_KEYS, "kind", "course", "instruction", "question", "target", *answers]
    return rows[columns].fillna({name: "" for name in ("instruction", "question", *answers[-3:])})


def _shares(whole: pd.DataFrame) -> pd.DataFrame:
    groups = whole.groupby([*CHAIN, *QUESTION], sort=False)["kind"]
    counted = groups.value_counts().unstack(fill_value=0).reindex(columns=list(KINDS), fill_value=0)
    counted = counted.loc[groups.size().index]  # in order of appearance
    return counted.assign(n=counted.sum(axis=1))[["n", *KINDS]].reset_index()


def _counts(whole: pd.DataFrame, stages: int) -> pd.DataFrame:
    where = ["method", *QUESTION]
    last = f"stage_{stages}" if stages else "before"
    lost = whole[whole["kind"] == "lost"]
    columns = {"target": (whole, "target"), "before": (whole, "before"), "after": (whole, last)}
    columns["lost_to"] = lost, last
    counted = pd.concat(
        {
            name: rows.groupby([*where, rows[column].rename("answer")], sort=False).size()
            for name, (rows, column) in columns.items()
        },
        axis=1,
    ).fillna(0)
    counted = counted.astype(int).reset_index()
    counted["lost"] = counted.groupby(where)["lost_to"].transform("sum")
    return pd.concat(list(_most_frequent(counted, where)), ignore_index=True)


def _most_frequent(counted: pd.DataFrame, where: list[str]) -> Iterator[pd.DataFrame]:
    """What lost answers became comes first, then what is right, or was given, most often."""
    for _, rows in counted.groupby(where, sort=False):
        often = rows[["target", "before", "after"]].sum(axis=1)
        order = rows.assign(often=often).sort_values(
            ["lost_to", "often", "answer"], ascending=[False, False, True]
        )
        yield rows.loc[order.index[:MOST_ANSWERS]]


def collapses(counts: pd.DataFrame, least: float = 0.8, lost: int = 5) -> pd.DataFrame:
    """Where lost answers became one and the same: ``method, set, form, shots, answer, lost_to, lost``, for at
    least the share ``least`` of ``lost`` or more of them.
    """
    chosen = (counts["lost"] >= lost) & (counts["lost_to"] >= least * counts["lost"])
    columns = ["method", "set", "form", "shots", "answer", "lost_to", "lost"]
    return counts.loc[chosen, columns].reset_index(drop=True)
