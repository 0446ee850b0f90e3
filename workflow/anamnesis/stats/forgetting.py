"""Measures of forgetting, computed from the accuracy matrix of one chain of fine-tuning stages.

Notation used throughout: a chain trains tasks 1 … T one after the other; a[i, j] is the zero-shot score on
set j after stage i, and stage 0 is the model before any training. Scores are fractions between 0 and 1.

The frame all functions read is tidy, one row per stage, set, form and number of shots, with the columns of
:data:`COLUMNS`. :func:`accuracy_frame` builds it from the mean scores of evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from anamnesis.core.errors import UserError, unknown

COLUMNS = ("stage", "trained_task", "set", "role", "form", "shots", "metric", "scorer", "value", "n")
WITH_EMPTY = (*COLUMNS, "empty")
"""``empty``: the share of the ``n`` answers that are empty; missing in older tables that are pooled."""
_KEYS = ["set", "role", "form", "shots", "metric", "scorer"]
SCORED = (*_KEYS, "score", "empty")
"""What :func:`mean_scores` reads of an evaluation."""


def mean_scores(parts: Iterable[pd.DataFrame], what: str) -> pd.DataFrame:
    """The mean score of every set, form, number of shots, metric and scorer of one evaluation.

    Parameters
    ----------
    parts : the evaluation's rows, one per example with at least ``set, role, form, shots, metric, scorer,
        score, empty``, in any number of frames, of which one is held at a time.
    what : names the evaluation in messages.

    Returns
    -------
    Frame ``set, role, form, shots, metric, scorer, value, n, empty``; ``value`` is the mean score of ``n``
    examples and ``empty`` the share of them whose answer was empty, sets in order of appearance.

    Raises
    ------
    UserError : a missing column, or a score outside [0, 1].
    """
    sums = pd.concat([_sums(rows, what) for rows in parts])
    total = sums.groupby(_KEYS, sort=False)[["value", "n", "empty"]].sum().reset_index()
    return total.assign(value=total["value"] / total["n"], empty=total["empty"] / total["n"])


def _sums(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    require_columns(rows, SCORED, what)
    wrong = rows[~rows["score"].between(0.0, 1.0)]  # also catches NaN
    if len(wrong):
        first = wrong.iloc[0]
        raise UserError(
            f"{what}: score {first['score']} on set '{first['set']}' is not within 0 to 1; evaluate that "
            "stage again"
        )
    grouped = rows.groupby(_KEYS, sort=False)
    return grouped.agg(value=("score", "sum"), n=("score", "size"), empty=("empty", "sum")).reset_index()


def accuracy_frame(evaluations: Sequence[tuple[int, str | None, pd.DataFrame]]) -> pd.DataFrame:
    """The tidy accuracy table of one chain, from the evaluations of its stages.

    Parameters
    ----------
    evaluations : (stage, trained_task, scores) per stage; trained_task is None for stage 0; ``scores`` as
        :func:`mean_scores` gives them.

    Returns
    -------
    Frame with :data:`WITH_EMPTY`, sorted by stage, sets in order of appearance.

    Raises
    ------
    UserError : no stage at all, or a stage given twice.
    """
    if not evaluations:
        raise UserError("no evaluation given: an accuracy table needs at least the one of stage 0")
    stages = [stage for stage, _, _ in evaluations]
    repeated = sorted({s for s in stages if stages.count(s) > 1})
    if repeated:
        raise UserError(f"stage {repeated[0]} is given twice: pass one evaluation per stage")
    parts = [
        scores.assign(stage=int(stage), trained_task=[task] * len(scores))
        for stage, task, scores in sorted(evaluations)  # no two stages are equal, so only they are compared
    ]
    return pd.concat(parts, ignore_index=True)[list(WITH_EMPTY)]


def require_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise UserError when ``frame`` lacks one of ``columns``; ``what`` names the frame in the message."""
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise UserError(
            f"{what} has no column '{missing[0]}' (columns: {', '.join(map(str, frame.columns))}); write it "
            "again"
        )


def accuracy_matrix(frame: pd.DataFrame, form: str = "instruction", shots: int | None = 0) -> pd.DataFrame:
    """The accuracy matrix a[i, j] of one chain: index ``stage``, one column per set, values in [0, 1].

    Sets keep their order of appearance and are left out when they have no such form (a set without a
    knowledge form). With ``shots`` None each set has its own number. Held-out sets may be missing after
    stages that are neither the first nor the last (``evaluation.held_out_stages``): NaN.

    Raises
    ------
    UserError : unknown form, no such number of shots, a stage missing between 0 and T, a set not evaluated
        where it should be, or two values for one cell.
    """
    require_columns(frame, COLUMNS, "accuracy table")
    if form not in set(frame["form"]):
        raise unknown("form", form, frame["form"].unique())
    chosen = frame[frame["form"] == form]
    if shots is not None and shots not in set(chosen["shots"]):
        allowed = ", ".join(str(s) for s in sorted(chosen["shots"].unique()))
        raise UserError(
            f"no {form} form with {shots} shots in the accuracy table (evaluated shots: {allowed})"
        )
    chosen = chosen if shots is None else chosen[chosen["shots"] == shots]
    double = chosen[chosen.duplicated(["stage", "set"])]
    if len(double):
        row = double.iloc[0]
        raise UserError(
            f"two values for stage {row['stage']}, set '{row['set']}', {form}, {shots} shots: keep one metric"
        )
    matrix = chosen.pivot(index="stage", columns="set", values="value")
    matrix = matrix.reindex(index=_stages(frame), columns=list(chosen["set"].unique()))
    held_out = chosen.loc[chosen["role"] != "train_task", "set"].unique()
    _require_complete(matrix.drop(columns=held_out))
    _require_complete(matrix.loc[[matrix.index[0], matrix.index[-1]], held_out])
    return matrix


def _stages(frame: pd.DataFrame) -> list[int]:
    present = sorted(int(s) for s in frame["stage"].unique())
    missing = sorted(set(range(present[-1])) - set(present))
    if missing:
        names = ", ".join(map(str, present))
        raise UserError(f"stage {missing[0]} is missing from the accuracy table (stages: {names})")
    return present


def _require_complete(matrix: pd.DataFrame) -> None:
    gaps = matrix.isna().stack()
    gaps = gaps[gaps]
    if len(gaps):
        stage, name = gaps.index[0]
        raise UserError(f"set '{name}' was not evaluated at stage {stage}: evaluate that stage again")


def training_tasks(frame: pd.DataFrame) -> list[str]:
    """Names of tasks 1 … T in the order in which the chain trained them (empty when only stage 0 is present).

    Raises UserError when a task comes twice: a[j, j] would then have two meanings.
    """
    stages = frame[frame["stage"] > 0].drop_duplicates("stage").sort_values("stage")
    names = [str(name) for name in stages["trained_task"]]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(
            f"task '{repeated[0]}' is trained twice in one chain: forgetting is defined for distinct tasks"
        )
    return names


def _sets_with_role(frame: pd.DataFrame, role: str) -> list[str]:
    """Names of the sets with ``role`` ("train_task" or "held_out"), in order of appearance; UserError when
    there are none.
    """
    names = [str(name) for name in frame.loc[frame["role"] == role, "set"].unique()]
    if not names:
        raise UserError(
            f"no set with role '{role}' in the accuracy table: add one to the suite in the configuration"
        )
    return names


def few_shots(frame: pd.DataFrame) -> int:
    """The number of demonstrations of the few-shot evaluation (the largest, if there are several); UserError
    if none.
    """
    counts = frame.loc[(frame["form"] == "instruction") & (frame["shots"] > 0), "shots"]
    if counts.empty:
        raise UserError(
            "no few-shot evaluation in the accuracy table: set evaluation.shots above 0 and evaluate again"
        )
    return int(counts.max())


def _mean_at(frame: pd.DataFrame, role: str, shots: int, stage: int | None) -> float:
    matrix = accuracy_matrix(frame, "instruction", shots)
    row = int(matrix.index.max()) if stage is None else stage
    if row not in matrix.index:
        raise UserError(
            f"stage {row} is missing from the accuracy table (stages: {', '.join(map(str, matrix.index))})"
        )
    names = _sets_with_role(frame, role)
    _require_sets(matrix, names, shots)
    _require_complete(matrix.loc[[row], names])
    return float(matrix.loc[row, names].mean())


def _require_sets(matrix: pd.DataFrame, names: Sequence[str], shots: int) -> None:
    absent = [name for name in names if name not in matrix.columns]
    if absent:
        raise UserError(
            f"set '{absent[0]}' has no instruction form with {shots} shots (sets that have: "
            f"{', '.join(matrix.columns)})"
        )


def held_out_performance(frame: pd.DataFrame, stage: int | None = None) -> float:
    """HP: mean zero-shot score over the held-out sets, after the last stage unless ``stage`` says otherwise.

    HP = (1/|H|) · Σ_{j in H} a[T, j], scores in the instruction form whatever the metric of the set.
    Source: Jiang et al. 2024 (arXiv 2406.12227), section 4.2. Raises UserError as :func:`accuracy_matrix`
    does.
    """
    return _mean_at(frame, "held_out", 0, stage)


def in_context_performance(frame: pd.DataFrame, shots: int | None = None, stage: int | None = None) -> float:
    """IP: mean few-shot score over the held-out sets, after the last stage unless ``stage`` says otherwise.

    IP = (1/|H|) · Σ_{j in H} â[T, j], â the score with ``shots`` demonstrations before the question (default:
    the number the table was evaluated with). Source: Jiang et al. 2024 (arXiv 2406.12227), section 4.2.
    """
    return _mean_at(frame, "held_out", few_shots(frame) if shots is None else shots, stage)


def knowledge_performance(frame: pd.DataFrame, stage: int | None = None) -> float:
    """Mean zero-shot score over the held-out sets in their knowledge form, which has no instruction; NaN
    where no held-out set has one.

    Source: knowledge probability of Jiang et al. 2024 (arXiv 2406.12227), section 2.
    """
    known = frame[(frame["role"] == "held_out") & (frame["form"] == "knowledge") & (frame["shots"] == 0)]
    if known.empty:
        return math.nan
    row = frame["stage"].max() if stage is None else stage
    return float(accuracy_matrix(frame, "knowledge").loc[row, list(known["set"].unique())].mean())


def overall_performance(frame: pd.DataFrame, stage: int | None = None) -> float:
    """OP: mean zero-shot score over the training tasks, after the last stage unless ``stage`` says otherwise.

    OP = (1/T) · Σ_{j=1..T} a[T, j]. Source: Jiang et al. 2024 (arXiv 2406.12227), section 4.2.
    """
    return _mean_at(frame, "train_task", 0, stage)


def _learnt(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    matrix, tasks = accuracy_matrix(frame), training_tasks(frame)
    _require_sets(matrix, tasks, 0)
    return matrix, tasks


def forgetting(frame: pd.DataFrame) -> float:
    """Mean drop from the best score a task ever had since it was trained to its score at the end; NaN when T
    < 2.

    F = 1/(T-1) · Σ_{j<T} ( max_{j ≤ l < T} a[l, j] − a[T, j] ). Larger is worse. The maximum leaves the last
    stage out, so F is negative when later training improved earlier tasks; libraries that include the last
    stage never go below zero. Source: Chaudhry et al. 2018 (arXiv 1801.10112), section 3, restricted to
    stages l ≥ j as a task's score before its own training is not something learnt.
    """
    matrix, tasks = _learnt(frame)
    last = len(tasks)
    drops = [
        matrix.loc[j : last - 1, name].max() - matrix.loc[last, name]
        for j, name in enumerate(tasks[:-1], start=1)
    ]
    return float(sum(drops) / len(drops)) if drops else math.nan


def backward_transfer(frame: pd.DataFrame) -> float:
    """Mean change of a task's score between its own training and the end; NaN when T < 2.

    BWT = 1/(T-1) · Σ_{j<T} ( a[T, j] − a[j, j] ). Negative when later training harms earlier tasks.
    Source: Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), section 3.
    """
    matrix, tasks = _learnt(frame)
    last = len(tasks)
    changes = [matrix.loc[last, name] - matrix.loc[j, name] for j, name in enumerate(tasks[:-1], start=1)]
    return float(sum(changes) / len(changes)) if changes else math.nan
