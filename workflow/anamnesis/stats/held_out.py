"""What each held-out set lost in each of its forms: the value before training, the change since, and whether
there was anything to lose.

A set that a model cannot do before training cannot be forgotten. Such sets are marked, and means say how many
of theirs are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from anamnesis.core.names import GENERATED
from anamnesis.evaluation.harness import HARNESS
from anamnesis.stats.forgetting import accuracy_matrix, few_shots
from anamnesis.stats.intervals import paired_interval
from anamnesis.stats.printed import difference_cell, markdown_table
from anamnesis.stats.summary import Chain

FORMS = {
    "hp": ("instruction", False),
    "ip": ("instruction", True),
    "knowledge": ("knowledge", False),
    "knowledge_few": ("knowledge", True),
    HARNESS: (HARNESS, None),
}
"""Measure -> (form, whether demonstrations are shown; None: as each set says)."""

NAMES = {
    "hp": "instruction, zero-shot (HP)",
    "ip": "instruction, few-shot (IP)",
    "knowledge": "knowledge, zero-shot",
    "knowledge_few": "knowledge, few-shot",
    HARNESS: "lm-evaluation-harness",
    "ip_hp": "few-shot minus zero-shot (IP − HP)",
}
MEAN = "mean"
FLOOR = 0.3  # least accuracy before training where answers are written
SIDE_BY_SIDE = 4  # methods that have columns of their own
AT = "at floor or chance"
TIMES_CHANCE = 1.5  # least accuracy before training where options are ranked, in units of guessing
COLUMNS = (
    "measure", "set", "method", "before", "after", "sd", "change", "low", "high", "confidence", "interval",
    "n", "sets", "chance", "mark", "marked",
)  # fmt: skip


def chance_levels(parts: Iterable[pd.DataFrame]) -> dict[tuple[str, str], float]:
    """(set, form) -> accuracy of guessing among the options, of an evaluation's rows ``set, form,
    choice_scores``; 0 where answers are written. The rows may come in any number of frames.
    """
    sums: dict[tuple[str, str], np.ndarray] = {}
    for rows in parts:
        guess = rows["choice_scores"].map(lambda s: 1 / len(s) if hasattr(s, "__len__") else 0.0)
        for key, values in guess.groupby([rows["set"], rows["form"]]):
            sums[key] = sums.get(key, np.zeros(2)) + np.array([values.sum(), len(values)])
    return {key: float(total / count) for key, (total, count) in sums.items()}


def mark_of(before: float, chance: float, written: bool) -> str:
    """What a set's value before training says. "floor": written answers are right less often than ``FLOOR``;
    "chance": options are chosen hardly better than by guessing; "": there is something to lose.
    """
    if written:
        return "floor" if before < FLOOR else ""
    return "chance" if before < TIMES_CHANCE * chance else ""


def held_out_table(
    chains: Sequence[Chain],
    chance: Mapping[tuple[str, str], float],
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """One row per measure (:data:`FORMS`), held-out set and method, and one for the mean over the sets.

    Returns
    -------
    Frame with :data:`COLUMNS`, fractions. ``before``: of the model before training; ``after``: mean over the
    ``n`` chains of a method after the last stage, ``sd`` theirs; ``change``: after − before with the interval
    ``low`` to ``high`` over chains (``summary.paired_interval``); ``chance``: accuracy of guessing, missing
    where it is not known; ``mark``: see :func:`mark_of`; ``sets``, ``marked``: how many sets a row is over
    and how many of them are marked. Measures that no set has are left out.
    """
    methods = list(dict.fromkeys(chain.method for chain in chains))
    how = resamples, confidence
    rows = [row for name in FORMS for row in _measure_rows(chains, name, methods, chance, how)]
    idle = {row["set"] for row in rows if row["measure"] in ("hp", "ip") and row["mark"]}
    rows += [_gap_row(chains, method, len(idle), how) for method in methods]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measure_rows(
    chains: Sequence[Chain], measure: str, methods: Sequence[str], chance: Mapping, how: tuple[int, float]
) -> list[dict[str, object]]:
    """The rows of one measure: each method on every set, then on their mean."""
    ends = {method: _ends(chains, method, *FORMS[measure]) for method in methods}
    first, _ = ends[methods[0]]
    guesses = {name: _guess(chains[0], name, FORMS[measure][0], chance) for name in first}
    marks = {name: mark_of(float(first[name].iloc[0]), *guesses[name]) for name in first}
    marked = sum(map(bool, marks.values()))
    rows = []
    for method, (before, after) in ends.items():
        where = {"measure": measure, "method": method}
        for name in first:
            own = {"set": name, "sets": 1, "chance": guesses[name][0], "mark": marks[name]}
            changed = _row(before[name], after[name], *how)
            rows.append({**where, **own, **changed, "marked": int(bool(marks[name]))})
        if len(first.columns):
            own = {"set": MEAN, "sets": len(first.columns), "mark": "", "marked": marked}
            rows.append({**where, **own, **_row(before.mean(axis=1), after.mean(axis=1), *how)})
    return rows


def _gap_row(chains: Sequence[Chain], method: str, marked: int, how: tuple[int, float]) -> dict[str, object]:
    """IP − HP of a method: whether in-context accuracy falls more than zero-shot accuracy. ``marked``: sets
    that have nothing to lose in one of the two.
    """
    zero, few = (_ends(chains, method, *FORMS[name]) for name in ("hp", "ip"))
    before, after = (few[end].mean(axis=1) - zero[end].mean(axis=1) for end in (0, 1))
    own = {"sets": zero[0].shape[1], "mark": "", "marked": marked}
    return {"measure": "ip_hp", "set": MEAN, "method": method, **_row(before, after, *how), **own}


def _ends(
    chains: Sequence[Chain], method: str, form: str, shown: bool | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values with a row per chain and a column per held-out set: (before training, after the last stage)."""
    before, after = [], []
    for chain in (c for c in chains if c.method == method):
        frame = chain.frame[(chain.frame["role"] != "train_task") & (chain.frame["form"] == form)]
        shots = None if shown is None else few_shots(chain.frame) if shown else 0
        if shots is not None:
            frame = frame[frame["shots"] == shots]
        if frame.empty:
            return pd.DataFrame(), pd.DataFrame()
        matrix = accuracy_matrix(chain.frame, form, shots)  # all sets: held-out ones may skip stages
        matrix = matrix[[name for name in matrix if name in set(frame["set"])]]
        before.append(matrix.iloc[0])
        after.append(matrix.iloc[-1])
    return pd.DataFrame(before).reset_index(drop=True), pd.DataFrame(after).reset_index(drop=True)


def _guess(chain: Chain, name: str, form: str, chance: Mapping) -> tuple[float, bool]:
    """(accuracy of guessing, NaN where it is not known; whether answers are written)."""
    rows = chain.frame[(chain.frame["set"] == name) & (chain.frame["form"] == form)]
    written = bool((rows["scorer"] == GENERATED).all())
    return 0.0 if written else chance.get((name, form), np.nan), written


def _row(before: pd.Series, after: pd.Series, resamples: int, confidence: float) -> dict[str, object]:
    """Each chain against its own start: runs that are pooled may differ there by an example."""
    changes, last = (after - before).to_numpy(), after.to_numpy()
    low, high, how = paired_interval(changes, resamples, confidence)
    return {
        "before": float(before.mean()),
        "after": float(last.mean()),
        "sd": float(last.std(ddof=1)) if len(last) > 1 else np.nan,
        "change": float(changes.mean()),
        "low": low,
        "high": high,
        "confidence": confidence if how else np.nan,
        "interval": how,
        "n": len(last),
    }


def marks(table: pd.DataFrame) -> dict[str, str]:
    """Set -> its mark in the instruction form without demonstrations, for the sets that have one."""
    rows = table[(table["measure"] == "hp") & (table["set"] != MEAN)]  # the same for every method
    found = rows.set_index("set")["mark"].astype(object).fillna("")
    return {name: mark for name, mark in found.items() if mark}


def held_out_cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table as printed: (header, rows), a row per measure and set with two columns per method, or, of
    more than ``SIDE_BY_SIDE`` methods, a row for each.
    """
    methods = list(dict.fromkeys(table["method"]))
    if len(methods) > SIDE_BY_SIDE:
        return ["Measure", "Set", "Method", "Before", "After", "Δ"], _row_each(table)
    header = ["Measure", "Set", "Before"]
    for method in methods:
        header += [method, f"Δ {method}"]
    rows = []
    for (measure, _), group in table.groupby(["measure", "set"], sort=False):
        by_method = group.set_index("method")
        first = by_method.iloc[0]
        cells = [NAMES[measure], set_label(first), _percent(first["before"])]
        for method in methods:
            row = by_method.loc[method]
            cells += [_percent(row["after"]), difference_cell(row.rename({"change": "mean"}))]
        rows.append(cells)
    return header, rows


def _row_each(table: pd.DataFrame) -> list[list[str]]:
    """Cells of a row for each measure, set and method, in the order of their first appearance."""
    keys = ("measure", "set")
    places = {key: {v: k for k, v in enumerate(dict.fromkeys(table[key]))} for key in keys}
    ordered = table.sort_values([*places], key=lambda c: c.map(places[c.name]))  # by two keys: stable
    return [
        [
            NAMES[row["measure"]],
            set_label(row),
            row["method"],
            *(_percent(row[end]) for end in ("before", "after")),
            difference_cell(row.rename({"change": "mean"})),
        ]
        for _, row in ordered.iterrows()
    ]


def _percent(value: float) -> str:
    return f"{100 * value:z.1f}".replace("-", "−")


def set_label(row: Mapping) -> str:
    """A set's name with its mark, or the mean with the number of its sets that are marked."""
    if row["set"] != MEAN:
        marked = isinstance(row["mark"], str) and row["mark"]  # a CSV has nothing in the place of ""
        return f"{row['set']} (at {row['mark']})" if marked else str(row["set"])
    sets = f"{row['sets']} set{'s' * int(row['sets'] != 1)}"
    return f"mean of {sets}, {marked_note(row['marked'])}"


def marked_note(marked: int) -> str:
    """How many sets of a mean are at floor or chance."""
    return f"{marked or 'none'} {AT}"


NOTE = (
    f"Per cent. At floor: written answers that were right less often than {100 * FLOOR:g} % before training. "
    f"At chance: options chosen less than {TIMES_CHANCE:g} times as often right as by guessing. Such a set "
    "has nothing to lose. Δ: change since before training in points, its interval over n chains of "
    "one start."
)


def held_out_markdown(table: pd.DataFrame) -> str:
    """The table as a Markdown section."""
    header, rows = held_out_cells(table)
    ranked = table.loc[(table["set"] != MEAN) & table["chance"].isna(), "set"].unique()
    unknown = f" Chance is not known, and not marked, for {', '.join(ranked)}." if len(ranked) else ""
    return f"\n## Held-out sets, one by one\n\n{markdown_table(header, rows)}\n\n{NOTE}{unknown}\n"
