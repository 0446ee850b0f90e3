"""What arXiv 2601.18699 (v1) claims, compared with this run.

Its models, tuning and definitions are not known, so its numbers are no target: what can be compared is which
way things go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anamnesis.analyses.mechanisms.columns import LEARNT, WHOLE
from anamnesis.analyses.mechanisms.comparison import OUTCOMES, PREDICTORS
from anamnesis.analyses.mechanisms.last_stage import MEASURES, SHARES
from anamnesis.stats.printed import markdown_table

SIMILARITIES = {"hidden_cosine": "hidden states", "vector_cosine": "vectors", "gradient_cosine": "gradients"}
NOTE = (
    "Published: other, far larger models, definitions that are not public, and in part numbers known only "
    "second hand. They are claims to compare directions with, no targets. This run: one small model and few "
    "chains; definitions in docs/explanation/mechanisms.md."
)


def beside_claims(
    reference: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    pairs: pd.DataFrame,
    associations: pd.DataFrame,
    summary: pd.DataFrame,
    cutoffs: Mapping[str, float],
) -> pd.DataFrame:
    """``claim, published, source, here, n``: the published claims with what this run measured.

    ``reference``: claim, quantity, published, source. ``here`` is text, ``n`` says how many of what.
    """
    levels = {name: part["value"].to_numpy() for name, part in summary.groupby("measure")}
    chains = f"{summary.groupby(['method', 'order', 'seed']).ngroups} chains"
    found = {
        "similarity": _similarity(associations),
        "heads": (
            f"{_range(levels, 'output_heads', True)} (output, 1 − cosine > {cutoffs['output']:g}); "
            f"{_range(levels, 'attention_heads', True)} (attention, > {cutoffs['attention']:g} bits)",
            chains,
        ),
        "heads_low": (
            f"{_range(levels, 'output_heads_low', True)} in the lowest third, "
            f"{_range(levels, 'output_heads', True)} in all layers (output)",
            chains,
        ),
        "cka": (f"by {_range({'fall': 1 - levels['cka']}, 'fall')} in the middle third", chains),
        "rotation": (f"{_range(levels, 'rotation')} degrees in the middle third", chains),
        "ratio": _ratio(pairs),
        "matrices": _matrices(tables["interference"]),
        "flattening": (
            f"top eigenvalue of the first task's loss, last over first stage: "
            f"{_range(levels, 'trained_ratio')} (its adapter), {_range(levels, 'base_ratio')} (base subset)",
            chains,
        ),
    }
    frame = reference[["claim", "published", "source"]].copy()
    frame["here"] = [found[q][0] for q in reference["quantity"]]
    frame["n"] = [found[q][1] for q in reference["quantity"]]
    return frame


def _range(levels: Mapping[str, np.ndarray], name: str, percent: bool = False) -> str:
    """Mean over chains and, in brackets, the lowest and the highest."""
    values = levels.get(name, np.array([]))
    if not len(values):
        return "not measured"
    numbers = [100 * v if percent else v for v in (values.mean(), values.min(), values.max())]
    mean, low, high = (f"{v:.1f}" if percent else f"{v:.3g}" for v in numbers)
    return f"{mean}{' %' if percent else ''} [{low}, {high}]"


def _similarity(associations: pd.DataFrame) -> tuple[str, str]:
    part = associations[(associations["sets"] == "all") & (associations["outcome"] == "loss_rise")]
    rows = part.set_index("predictor")
    said = [
        f"{label} {rows.loc[p, 'pearson']:+.2f} [{rows.loc[p, 'pearson_low']:+.2f}, "
        f"{rows.loc[p, 'pearson_high']:+.2f}]"
        for p, label in SIMILARITIES.items()
    ]
    return f"{OUTCOMES['loss_rise']}: " + ", ".join(said), f"{rows['n'].max()} pairs of stage and set"


def _ratio(pairs: pd.DataFrame) -> tuple[str, str]:
    apart = pairs[pairs["gradient_cosine"] < 0]["loss_rise"]
    along = pairs[pairs["gradient_cosine"] >= 0]["loss_rise"]
    said = f"mean rise of the loss {apart.mean():+.3f} nats where the cosine is negative, "
    said += f"{along.mean():+.3f} else"
    return said, f"{len(apart)} and {len(along)} pairs"


def _matrices(frame: pd.DataFrame) -> tuple[str, str]:
    rows = frame[(frame["role"] == LEARNT) & (frame["layer"] != WHOLE) & (frame["head"] == WHOLE)]
    rows = rows[rows["matrix"] != "all"]
    share = rows.groupby("matrix", sort=False)["conflicts"].mean().sort_values(ascending=False)
    said = ", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items())
    return f"conflicting probes: {said}", f"{len(rows) // max(len(share), 1)} gradients of each"


@dataclass(frozen=True, slots=True)
class Tabled:
    """A table as text: what a page is made of, in Markdown and in the report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def tabled(comparison: pd.DataFrame, associations: pd.DataFrame, claims: pd.DataFrame) -> list[Tabled]:
    """Methods side by side, correlations with forgetting, and the claims."""
    return [
        comparison_table(comparison),
        associations_table(associations),
        Tabled(
            "The paper's claims and this run",
            ["Claim", "Published", "Source", "This run, mean [lowest, highest]", "n"],
            claims[["claim", "published", "source", "here", "n"]].astype(str).to_numpy().tolist(),
            NOTE,
        ),
    ]


def markdown(tables: Sequence[Tabled]) -> str:
    """The tables as one Markdown page."""
    return "\n".join(f"## {t.title}\n\n{markdown_table(t.header, t.rows)}\n\n{t.note}\n" for t in tables)


def comparison_table(comparison: pd.DataFrame) -> Tabled:
    """A row per measure: mean ± s.d. (n) of each method, and the paired differences that guidance makes."""
    columns = list(dict.fromkeys(zip(comparison["kind"], comparison["method"], strict=True)))
    columns.sort(key=lambda column: column[0] == "difference")
    rows = []
    for measure, part in comparison.groupby("measure", sort=False):
        cells = part.set_index(["kind", "method"])
        found = [_cell(cells.loc[c], measure) if c in cells.index else "–" for c in columns]
        rows.append([MEASURES[measure] + (" (%)" if measure in SHARES else ""), *found])
    header = ["Measure", *(f"Δ {m}" if kind == "difference" else m for kind, m in columns)]
    note = "Levels: mean ± s.d. (n chains). Δ: mean paired difference to the plain method [interval]."
    return Tabled("Methods side by side", header, rows, note)


def _cell(row: pd.Series, measure: str) -> str:
    scale, form = (100, ".1f") if measure in SHARES else (1, ".3g")
    if row.name[0] == "difference":
        interval = f" [{scale * row['low']:+{form}}, {scale * row['high']:+{form}}]"
        interval = interval if pd.notna(row["low"]) else ""
        return f"{scale * row['mean']:+{form}}{interval} (n={row['n']})"
    spread = f" ± {scale * row['sd']:{form}}" if row["n"] > 1 else ""
    return f"{scale * row['mean']:{form}}{spread} (n={row['n']})"


def associations_table(associations: pd.DataFrame) -> Tabled:
    """Pearson's and Spearman's correlations over all sets with their intervals, a row per outcome and
    predictor.
    """
    rows = [
        [
            OUTCOMES[row["outcome"]],
            PREDICTORS[row["predictor"]],
            *(_interval(row, name) for name in ("pearson", "spearman")),
            str(row["n"]),
        ]
        for _, row in associations[associations["sets"] == "all"].iterrows()
    ]
    header = ["What the stage took", "Predictor", "Pearson", "Spearman", "n"]
    note = (
        "Sets learnt before and held-out sets; those learnt before alone are in the CSV. Bootstrap intervals "
        "over rows; rows of one chain are not independent, so they are too narrow."
    )
    return Tabled("What predicts forgetting", header, rows, note)


def _interval(row: pd.Series, name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "–" if np.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
