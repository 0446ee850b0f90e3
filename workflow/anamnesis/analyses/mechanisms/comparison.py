"""All stages of all chains put together: what each stage took from each set, with what may predict it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from anamnesis.analyses.measured import PLACE as KEYS
from anamnesis.analyses.mechanisms.columns import EVERY, HELD_OUT, LATER, LEARNT, NEW, TRAINED, WHOLE
from anamnesis.stats.correlation import correlation

OUTCOMES = {
    "loss_rise": "rise of the answer's loss (nats a token)",
    "accuracy_drop": "drop of zero-shot accuracy",
    "few_shot_drop": "drop of few-shot accuracy",
}
PREDICTORS = {
    "hidden_cosine": "hidden-state cosine",
    "vector_cosine": "instruction-vector cosine",
    "gradient_cosine": "gradient cosine",
    "conflicts": "share of conflicting probes",
    "drift_rise": "rise of drift (1 − CKA)",
    "heads_rise": "rise of disrupted heads",
    "sharpening": "log ratio of the top eigenvalue",
}


def interference_along(frame: pd.DataFrame, orders: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Gradients of the task learnt in a stage against those of every other set, at the weights before it.

    ``frame``: tables of gradients with :data:`KEYS` in front, ``stage`` that of the weights. Returns the rows
    of stages 1 to T: ``method, order, seed, stage, new, set, role, layer, matrix, head, cosine, conflicts,
    pairs``.
    """
    found = frame.assign(stage=frame["stage"] + 1)
    found = found[found["stage"] <= len(orders[0])]
    new = _new_tasks(found, orders)
    here = (found["set"] == new) | (found["other"] == new)
    found, new = found[here], new[here]
    other = found["other"].where(found["set"] == new, found["set"])
    found = found.assign(new=new, set=other).drop(columns="other")
    found["role"] = _roles(found, orders)
    columns = [*KEYS, "new", "set", "role", "layer", "matrix", "head", "cosine", "conflicts", "pairs"]
    return found[columns].reset_index(drop=True)


def _new_tasks(frame: pd.DataFrame, orders: Sequence[Sequence[str]]) -> pd.Series:
    keys = zip(frame["order"], frame["stage"], strict=True)
    return pd.Series([orders[int(o) - 1][int(s) - 1] for o, s in keys], index=frame.index, dtype=object)


def _roles(frame: pd.DataFrame, orders: Sequence[Sequence[str]]) -> list[str]:
    """What a set is to the stage: learnt before it, held out, the new task, or a task of a later stage."""
    found = []
    for order, stage, name in zip(frame["order"], frame["stage"], frame["set"], strict=True):
        tasks = list(orders[int(order) - 1])
        place = tasks.index(name) + 1 if name in tasks else 0
        roles = {-1: LEARNT, 0: NEW, 1: LATER}
        found.append(roles[int(np.sign(place - int(stage)))] if place else HELD_OUT)
    return found


def pairs_frame(
    curves: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    vectors: pd.DataFrame,
    orders: Sequence[Sequence[str]],
    cutoff: float,
) -> pd.DataFrame:
    """One row per chain, stage and set learnt before or held out: what the stage took, and predictors.

    ``curves``: the accuracy table of all chains; ``tables``: ``losses``, ``similarity``, ``interference``,
    ``drift``, ``heads`` and ``landscape`` of all stages, with :data:`KEYS`; ``vectors``: set, other, cosine.
    All changes are from the stage before to this one; similarities are those before the stage, of the set
    with the task that the stage learns. ``cutoff``: of a head's output.
    """
    rows = _rises(tables["losses"].set_index([*KEYS, "set"])["loss"], "loss_rise").reset_index()
    rows["new"] = _new_tasks(rows, orders)
    rows["role"] = _roles(rows, orders)
    rows = rows[rows["role"].isin([LEARNT, HELD_OUT])]
    form = curves[curves["form"] == "instruction"]
    for name, shots in (("accuracy_drop", 0), ("few_shot_drop", form["shots"].max())):
        part = form[form["shots"] == shots].set_index([*KEYS, "set"])["value"]
        rows = _with(rows, -_rises(part, name))
    rows = rows.merge(_hidden(tables["similarity"]), how="left", on=[*KEYS, "new", "set"])
    named = vectors.rename(columns={"other": "new", "cosine": "vector_cosine"})
    rows = rows.merge(named, how="left", on=["new", "set"])
    rows = rows.merge(_whole(tables["interference"]), how="left", on=[*KEYS, "set"])
    for found in _mechanisms(tables, cutoff):
        rows = _with(rows, found)
    return rows.reset_index(drop=True)


def _whole(interference: pd.DataFrame) -> pd.DataFrame:
    """The cosine over all layers and matrices, and the conflicting probes."""
    rows = interference[(interference["layer"] == WHOLE) & (interference["matrix"] == EVERY)]
    return rows.rename(columns={"cosine": "gradient_cosine"})[[*KEYS, "set", "gradient_cosine", "conflicts"]]


def _mechanisms(tables: Mapping[str, pd.DataFrame], cutoff: float) -> Iterator[pd.Series]:
    """By how much drift, disruption and curvature rose in each stage."""
    drift, heads, landscape = (tables[name] for name in ("drift", "heads", "landscape"))
    moved = drift[drift["set"] != EVERY].groupby([*KEYS, "set"])["cka"].mean()
    yield -_rises(_with_start(moved, 1.0), "drift_rise")
    broken = heads.set_index([*KEYS, "set"])["output"] > cutoff
    yield _rises(_with_start(broken.groupby(level=[*KEYS, "set"]).mean(), 0.0), "heads_rise")
    top = landscape[(landscape["weights"] == TRAINED) & (landscape["measure"] == "eigenvalue")]
    top = top.set_index([*KEYS, "set"])["value"]
    yield _rises(np.log(top[top > 0]), "sharpening")


def _rises(level: pd.Series, name: str) -> pd.Series:
    """What a level, by :data:`KEYS` and set, gained in each stage that has one before it."""
    before = level.reset_index().assign(stage=lambda f: f["stage"] + 1).set_index(level.index.names)
    return (level - before[level.name]).dropna().rename(name)


def _with_start(level: pd.Series, value: float) -> pd.Series:
    """A level with ``value`` before training, with which all later stages were compared."""
    first = level.reset_index()
    first = first[first["stage"] == 1].assign(stage=0).set_index(level.index.names)[level.name]
    return pd.concat([first * 0 + value, level])


def _with(rows: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
    return rows.merge(found.reset_index(), how="left", on=[*KEYS, "set"])


def _hidden(similarity: pd.DataFrame) -> pd.DataFrame:
    frame = similarity.assign(stage=similarity["stage"] + 1)
    return frame.rename(columns={"other": "new", "hidden": "hidden_cosine"}).drop(columns="layer")


def associations(pairs: pd.DataFrame, resamples: int, confidence: float) -> pd.DataFrame:
    """Correlation of every predictor with every outcome, over the sets learnt before and over all sets.

    Returns ``sets, outcome, predictor, n, pearson, pearson_low, pearson_high, spearman, spearman_low,
    spearman_high``. Intervals are percentiles of a bootstrap over rows; rows of one chain are not
    independent, so they are too narrow. NaN for fewer than four rows or a variable that does not vary.
    """
    rows = []
    for sets, part in (("learnt", pairs[pairs["role"] == LEARNT]), ("all", pairs)):
        for outcome in OUTCOMES:
            for predictor in PREDICTORS:
                both = part[[predictor, outcome]].dropna().to_numpy(dtype=float)
                found = {"sets": sets, "outcome": outcome, "predictor": predictor, "n": len(both)}
                for name, ranked in (("pearson", False), ("spearman", True)):
                    value, low, high = correlation(both[:, 0], both[:, 1], ranked, resamples, confidence)
                    found |= {name: value, f"{name}_low": low, f"{name}_high": high}
                rows.append(found)
    return pd.DataFrame(rows)
