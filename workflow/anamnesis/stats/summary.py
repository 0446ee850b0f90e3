"""Table 1: what each training method keeps, over orders and seeds, and what guidance changes, pair by pair.

All values are fractions (scores between 0 and 1) in frames and CSV; the Markdown and LaTeX forms print per
cent.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from anamnesis.core.errors import UserError
from anamnesis.core.names import GENERATED, GUIDED_SUFFIX
from anamnesis.stats import forgetting as measures_of

BASELINE = "before training"
MEASURES = ("hp", "ip", "op", "forgetting", "bwt")
# A two-sided sign test on fewer pairs than this cannot reach p < 0.05 (2 · 0.5⁶ = 0.031).
MINIMUM_PAIRS = 6
# Below, Student's t covers the mean more often than a bootstrap (BCa). Where both say 95 %, for 1,500 samples
# of 3, 6, 10, 20 and 40 values: normal ones 95 to 96 % and 74, 86, 91, 92, 93 %; exponential ones 88, 90, 90,
# 91, 93 % and 68, 84, 86, 89, 93 %.
BOOTSTRAP_PAIRS = 40
TABLE_COLUMNS = (
    "kind", "method", "twin", "measure", "mean", "sd", "n", "low", "high", "confidence", "interval", "scorer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of stages: method, task order (number), seed, and its tidy accuracy frame."""

    method: str
    order: int
    seed: int
    frame: pd.DataFrame


def curves_frame(chains: Sequence[Chain]) -> pd.DataFrame:
    """The accuracy frames of all chains below each other, with ``method, order, seed`` in front of their
    columns.
    """
    if not chains:
        raise UserError("no chain given: name at least one method, order and seed in the configuration")
    identified = [
        c.frame[list(measures_of.COLUMNS)].assign(method=c.method, order=c.order, seed=c.seed) for c in chains
    ]
    joined = pd.concat(identified, ignore_index=True)
    return joined[["method", "order", "seed", *measures_of.COLUMNS]]


def chain_measures(chains: Sequence[Chain], shots: int | None = None) -> pd.DataFrame:
    """The measures of every chain, one row each, and those of the model before training.

    Returns
    -------
    Frame ``method, order, seed, hp, ip, op, knowledge, forgetting, bwt`` (fractions; ``knowledge`` is missing
    where no held-out set has that form), ``scorer`` (what options were ranked by; "generated" when none
    were). A row named "before training" comes first: stage 0 of the first chain, which all chains share, with
    missing order and seed and without forgetting and BWT.

    Raises
    ------
    UserError : no chain, a chain given twice, or a stage or set missing from a chain.
    """
    if not chains:
        raise UserError("no chain given: name at least one method, order and seed in the configuration")
    keys = [(c.method, c.order, c.seed) for c in chains]
    double = [k for k in keys if keys.count(k) > 1]
    if double:
        raise UserError(
            f"chain method={double[0][0]} order={double[0][1]} seed={double[0][2]} is given twice"
        )
    trained = [_trained_row(c, shots) for c in chains]
    return pd.DataFrame([_baseline_row(chains[0], shots), *trained]).astype(
        {"order": "Int64", "seed": "Int64"}
    )


def _levels(frame: pd.DataFrame, shots: int | None, stage: int | None) -> dict[str, float]:
    return {
        "hp": measures_of.held_out_performance(frame, stage),
        "ip": measures_of.in_context_performance(frame, shots, stage),
        "op": measures_of.overall_performance(frame, stage),
        "knowledge": measures_of.knowledge_performance(frame, stage),
    }


def _trained_row(chain: Chain, shots: int | None) -> dict[str, object]:
    return {
        "method": chain.method,
        "order": chain.order,
        "seed": chain.seed,
        **_levels(chain.frame, shots, None),
        "forgetting": measures_of.forgetting(chain.frame),
        "bwt": measures_of.backward_transfer(chain.frame),
        "scorer": _scorers(chain.frame),
    }


def _scorers(frame: pd.DataFrame) -> str:
    """What options were ranked by; "generated" when none were."""
    return ", ".join(dict.fromkeys(frame["scorer"][frame["scorer"] != GENERATED])) or GENERATED


def _baseline_row(chain: Chain, shots: int | None) -> dict[str, object]:
    return {
        "method": BASELINE,
        "order": None,
        "seed": None,
        **_levels(chain.frame, shots, 0),
        "forgetting": math.nan,
        "bwt": math.nan,
        "scorer": _scorers(chain.frame),
    }


def table1(
    measures: pd.DataFrame, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Table 1 in tidy form, one row per method and measure, then one per pair of methods and measure.

    Parameters
    ----------
    measures : frame of :func:`chain_measures`.
    resamples, confidence, seed : of :func:`paired_interval` over (order, seed) pairs.

    Returns
    -------
    Frame with :data:`TABLE_COLUMNS`. ``kind`` is "level" (mean and s.d. over chains) or "difference" (mean of
    twin − method over the (order, seed) that both have, with the interval ``low`` to ``high``). ``sd`` has
    ddof=1 and is empty for n < 2; ``interval`` is "t", "BCa", "percentile" or empty (fewer than two
    pairs, or all equal).
    """
    methods = list(dict.fromkeys(measures["method"]))
    rows = [_level_row(measures, method, name) for method in methods for name in MEASURES]
    for method in methods:
        twin = method + GUIDED_SUFFIX
        if twin in methods:
            pairs = paired_differences(measures, method, twin)
            rows += [
                difference_row(pairs, method, twin, name, resamples, confidence, seed) for name in MEASURES
            ]
    scorer = ", ".join(dict.fromkeys(measures["scorer"]))
    return pd.DataFrame([row | {"scorer": scorer} for row in rows], columns=list(TABLE_COLUMNS))


def paired_differences(measures: pd.DataFrame, method: str, twin: str) -> pd.DataFrame:
    """Differences twin − method of all measures, index (order, seed), for the pairs that both methods
    have.
    """
    keys = ["order", "seed"]
    plain = measures[measures["method"] == method].set_index(keys)[list(MEASURES)]
    guided = measures[measures["method"] == twin].set_index(keys)[list(MEASURES)]
    shared = plain.index.intersection(guided.index).sort_values()
    return guided.loc[shared] - plain.loc[shared]


def _moments(values: np.ndarray) -> dict[str, float | int]:
    n = len(values)
    return {
        "mean": float(values.mean()) if n else math.nan,
        "sd": float(values.std(ddof=1)) if n > 1 else math.nan,
        "n": n,
    }


def _level_row(measures: pd.DataFrame, method: str, name: str) -> dict[str, object]:
    values = measures.loc[measures["method"] == method, name].dropna().to_numpy(dtype=float)
    nothing = {"low": math.nan, "high": math.nan, "confidence": math.nan, "interval": ""}
    return {"kind": "level", "method": method, "twin": "", "measure": name, **_moments(values), **nothing}


def difference_row(pairs, method, twin, name, resamples, confidence, seed=0) -> dict[str, object]:
    """The row of :func:`table1` for the measure ``name`` of :func:`paired_differences`."""
    values = pairs[name].dropna().to_numpy(dtype=float)
    low, high, how = paired_interval(values, resamples, confidence, seed)
    found = {"low": low, "high": high, "confidence": confidence if how else math.nan, "interval": how}
    return {
        "kind": "difference",
        "method": method,
        "twin": twin,
        "measure": name,
        **_moments(values),
        **found,
    }


def paired_interval(
    values: Sequence[float] | np.ndarray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, str]:
    """Interval of the mean of paired differences: (low, high, how it was found), or (NaN, NaN, "") for n < 2
    and for differences that are all equal, which show no spread to judge them by: with few questions two or
    three chains can agree by chance, and an interval without width would call that certain.

    Student's t ("t") for fewer than :data:`BOOTSTRAP_PAIRS`, which takes the differences as normal; from
    there on :func:`bootstrap_interval`.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) > 1 and np.ptp(sample) < 1e-12:  # but for rounding
        return math.nan, math.nan, ""
    if not 2 <= len(sample) < BOOTSTRAP_PAIRS:
        return bootstrap_interval(sample, resamples, confidence, seed)
    half = stats.t.ppf((1 + confidence) / 2, len(sample) - 1) * stats.sem(sample)
    return float(sample.mean() - half), float(sample.mean() + half), "t"


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, str]:
    """Bootstrap interval of the mean of ``values``: (low, high, "BCa" or "percentile"), or (NaN, NaN, "") for
    n < 2.

    Bias-corrected and accelerated (Efron 1987); where that is not defined (all values equal, every resample
    on one side) the percentile interval. The same input and seed give the same interval.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return math.nan, math.nan, ""
    # differences that are equal but for rounding would give BCa a meaningless acceleration
    for method in ("BCa", "percentile") if np.ptp(sample) > 1e-12 else ("percentile",):
        with warnings.catch_warnings():
            # scipy warns where BCa is degenerate; the fallback handles it
            warnings.simplefilter("ignore")
            result = stats.bootstrap(
                (sample,), np.mean, n_resamples=resamples, confidence_level=confidence, method=method,
                rng=np.random.default_rng(seed), vectorized=True,
            )  # fmt: skip
        low, high = (float(v) if abs(v) > 1e-12 else 0.0 for v in result.confidence_interval)  # rounding
        if math.isfinite(low) and math.isfinite(high):
            return low, high, method
    raise AssertionError("the percentile interval of two or more finite values is always finite")


HEADINGS = {"hp": "HP", "ip": "IP", "op": "OP", "forgetting": "Forgetting", "bwt": "BWT"}


def table_note(table: pd.DataFrame) -> str:
    """The note below Table 1: what the columns are, what n counts, and how far the intervals can be
    trusted.
    """
    note = (
        "Per cent. HP and IP: held-out sets, zero-shot and few-shot; OP: training tasks, zero-shot; all "
        "after the last stage. Higher is better, except for forgetting. Mean ± s.d. over chains (order × "
        "seed); n: number of chains. "
    )
    note += f"Options ranked by: {table['scorer'].iloc[0]} (docs/data.md). "
    pairs = table[table["kind"] == "difference"]
    if pairs.empty:
        return note.strip()
    note += (
        "Δ: paired difference over the (order, seed) that both methods have, in percentage points, with its "
        f"interval ({_intervals(pairs)}); n: number of pairs. The interval is about other orders and seeds, "
        "from the same start and on the same questions. "
    )
    if ((pairs["n"] > 1) & pairs["low"].isna()).any():
        note += "Differences that are all equal have none, as they show no spread. "
    # by measure first: a chain of one task has no forgetting, which says nothing about the number of pairs
    least = int(pairs.groupby(["method", "twin"])["n"].max().min())
    if least < 2:
        note += f"With n = {least} there is no interval, and nothing can be said about other seeds."
    elif least < MINIMUM_PAIRS:
        note += (
            f"With n = {least} pairs it is weak evidence: {least} differences of one sign happen by chance "
            f"with probability {2.0 ** (1 - least):.2g}."
        )
    return note.strip()


def _intervals(rows: pd.DataFrame) -> str:
    """How the intervals of differences were found."""
    names = {"t": "Student's t", "BCa": "bootstrap, BCa", "percentile": "bootstrap, percentiles"}
    confidence = rows["confidence"].dropna()
    shown = [names[how] for how in rows.loc[rows["low"].notna(), "interval"].unique()]
    if shown:
        return f"{100 * confidence.iloc[0]:g} %: {'; '.join(shown)}"
    return "none with one pair" if rows["n"].max() <= 1 else "none"


def _level_cell(row: pd.Series, plus_minus: str) -> str:
    if row["n"] == 0:
        return "–"
    spread = f" {plus_minus} {100 * row['sd']:.1f}" if row["n"] > 1 else ""
    return f"{100 * row['mean']:z.1f}{spread} (n={row['n']})".replace("-", "−")


def difference_cell(row: pd.Series) -> str:
    """A difference as printed: points, interval, n."""
    if row["n"] == 0:
        return "–"
    interval = f" [{100 * row['low']:+z.1f}, {100 * row['high']:+z.1f}]" if pd.notna(row["low"]) else ""
    return f"{100 * row['mean']:+z.1f}{interval} (n={row['n']})".replace("-", "−")


def table_cells(table: pd.DataFrame, plus_minus: str = "±") -> tuple[list[str], list[list[str]]]:
    """Table 1 as printed: (header, rows of strings), one row per method, then one per paired difference."""
    rows = []
    for (kind, method, twin), group in table.groupby(["kind", "method", "twin"], sort=False, dropna=False):
        cell: Callable[[pd.Series], str] = (
            difference_cell if kind == "difference" else lambda row: _level_cell(row, plus_minus)
        )
        by_measure = group.set_index("measure")
        name = f"Δ {twin} − {method}" if kind == "difference" else method
        rows.append([name, *(cell(by_measure.loc[m]) for m in MEASURES)])
    return ["Method", *HEADINGS.values()], rows


def to_csv(table: pd.DataFrame) -> str:
    """Table 1 as tidy CSV text: fractions in full precision, empty fields where nothing is defined."""
    return table.to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame) -> str:
    """Table 1 as a Markdown table with its note; vertical bars in names are escaped."""
    return f"{markdown_table(*table_cells(table))}\n\n{table_note(table)}\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, all columns but the first to the right; vertical bars are escaped."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$",
    "×": r"$\times$", "Δ": r"$\Delta$", "–": "--",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """``text`` with every character that LaTeX treats as a command replaced, usable outside math mode."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    # a row that begins with "[" would be read as an option of the line break before it
    return " & ".join("{" + c + "}" if c.startswith("[") else c for c in map(latex_escape, cells)) + r" \\"


def to_latex(table: pd.DataFrame) -> str:
    """Table 1 as a LaTeX ``table`` environment (needs the package booktabs), its note as the caption."""
    header, rows = table_cells(table)
    levels = table[table["kind"] == "level"]["method"].nunique()
    body = [_latex_row(row) for row in rows]
    if len(body) > levels:
        body.insert(levels, r"\midrule")
    lines = [
        r"\begin{table}", r"\centering", r"\small", r"\begin{tabular}{l" + "r" * len(MEASURES) + "}",
        r"\toprule", _latex_row(header), r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
        r"\caption{" + latex_escape(table_note(table)) + "}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
