"""The numeric claims of arXiv 2406.12227 and those of this run, and whether the direction agrees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from anamnesis.analyses.checkpoints.changes import FORMS, form_changes, steepest_drop
from anamnesis.analyses.checkpoints.tables import (
    alignment_table,
    condition_table,
    correlations,
    drift_table,
    overlaps,
    recovered,
    recovery_table,
)
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.report.builder import Section, Table
from anamnesis.report.results import AnalysisResults
from anamnesis.report.sentences import number, percent, points
from anamnesis.stats.summary import BASELINE

NOTE = (
    "Published: Llama-2-7b-chat on other tasks, with other scoring, so its levels are no target. Compared is "
    "the direction only, without regard to chance: the intervals and the n stand with the figures."
)


@dataclass(frozen=True, slots=True)
class Claim:
    """``published`` and ``ours`` as text; ``agrees``: None where there is no direction to compare, or no
    value.
    """

    where: str
    text: str
    published: str
    ours: str
    agrees: bool | None


def claims(results: AnalysisResults, method: str) -> list[Claim]:
    """Every claim of which this run has the measure, for one plain ``method`` and, where there is one, its
    guided form.
    """
    return [
        *_forgetting(results.curves[results.curves["method"] == method]),
        *_vectors(condition_table(results.frames["conditions"])),
        *_stages(results, method),
        *_recovery(recovery_table(results.frames["conditions"]), method),
        *_guidance(results.table, method),
    ]


def claims_section(results: AnalysisResults) -> Section:
    """The claims as a table; of the first method that is not guided."""
    methods = list(results.frames["conditions"]["method"].unique())
    method = next((m for m in methods if not m.endswith(GUIDED_SUFFIX)), methods[0])
    words = {True: "yes", False: "no", None: "–"}
    found = claims(results, method)
    rows = [[c.where, c.text, c.published, c.ours, words[c.agrees]] for c in found]
    header = ["Paper", "Claim", "Published", f"This run ({method})", "Same direction"]
    return Section("Paper against this run", tables=[Table(header, rows, NOTE, kind="text")])


def _forgetting(curves: pd.DataFrame) -> list[Claim]:
    frame = form_changes(curves)
    mean = frame.groupby(["role", "form"])[["change", "after"]].mean()
    zero, few, known = FORMS
    change = mean["change"]
    found = [
        Claim("section 2", "instruction accuracy on general sets falls", "−10.24 points",
              points(change["held_out", zero]), change["held_out", zero] < 0)
    ]  # fmt: skip
    if ("both_forms", known) in change:
        value = change["both_forms", known]
        found.append(
            Claim("section 2", "their knowledge accuracy does not", "+1.93 points", points(value), value >= 0)
        )
    gap = mean["after"]["held_out", few] - mean["after"]["held_out", zero]
    found.append(
        Claim("section 2", "after training, in-context accuracy is below zero-shot", "−14.67 points",
              points(gap), gap < 0)
    )  # fmt: skip
    stages = curves.groupby("role")["stage"].nunique()
    if stages["train_task"] == stages["held_out"]:  # a peak between two scored stages would be missed
        new, old = (steepest_drop(curves, role) for role in ("train_task", "held_out"))
        found.append(
            Claim("section 2", "newly learnt tasks lose more in a stage than general ones",
                  "3.0 against 0.63", f"{100 * new:.1f} against {100 * old:.1f}", new > old)
        )  # fmt: skip
    return found


def _vectors(table: pd.DataFrame) -> list[Claim]:
    mean = table[table["method"] == ""].groupby("letter")["accuracy"].mean()
    return [
        Claim("figure 4", "adding the vector raises zero-shot accuracy", "24 % to 68 %",
              f"{percent(mean['a'])} to {percent(mean['c'])}", bool(mean["c"] > mean["a"])),
        Claim("figure 4", "removing it lowers accuracy", "52 % to 0 %",
              f"{percent(mean['d'])} to {percent(mean['e'])}", bool(mean["e"] < mean["d"])),
    ]  # fmt: skip


def _stages(results: AnalysisResults, method: str) -> list[Claim]:
    alike = alignment_table(results.frames["alignment"], results.curves)
    within = correlations(alike[alike["method"] == method])["within"]
    moved = drift_table(results.frames["drift"], results.frames["conditions"])
    moved = moved[(moved["method"] == method) & (moved["stage"] == moved["stage"].max())]
    last = moved[["selected", "random", "few_shot", "restored"]].mean()
    heads = results.frames["heads"]
    shared = overlaps(heads[heads["method"] == method]).groupby("stage")["shared"].mean()
    return [
        Claim("figure 5a", "accuracy goes with the similarity of hidden states and vector",
              "0.249 at 65 %, lower at 1 %", f"r = {number(within)} within sets",
              None if math.isnan(within) else within > 0),
        Claim("figure 5b", "the vector moves less than that of random heads",
              "0.95, 0.79 against 0.80, 0.48", f"{last['selected']:.2f} against {last['random']:.2f}",
              bool(last["selected"] > last["random"])),
        Claim("figure 5b", "putting the heads' outputs back gives little", "not given as a number",
              points(last["restored"] - last["few_shot"]), None),
        Claim("figure 5c", "other heads take the place of the set S", "not given as a number",
              f"{shared.iloc[0]:.3g} of S among the strongest before, {shared.iloc[-1]:.3g} after",
              bool(shared.iloc[-1] < shared.iloc[0])),
    ]  # fmt: skip


def _recovery(table: pd.DataFrame, method: str) -> list[Claim]:
    rows = recovered(table[table["method"] == method])
    worst = rows.loc[(rows["few-shot"] - rows["before"]).idxmin()]
    base, now, first = (worst[name] for name in ("zero-shot", "current", "initial"))
    return [
        Claim("figure 7", "on a forgotten set, the current vector gives accuracy back", "3 % to 47 %",
              f"{percent(base)} to {percent(now)} ({worst['set']})", bool(now > base)),
        Claim("figure 7", "so does that of the model before training", "3 % to 49 %",
              f"{percent(base)} to {percent(first)} ({worst['set']})", bool(first > base)),
    ]  # fmt: skip


def _guidance(table: pd.DataFrame, method: str) -> list[Claim]:
    mean: Mapping = table[table["kind"] == "level"].set_index(["method", "measure"])["mean"].to_dict()
    guided = method + GUIDED_SUFFIX
    if (guided, "hp") not in mean:
        return []
    lost = [mean[BASELINE, "hp"] - mean[name, "hp"] for name in (method, guided)]
    rows = [
        Claim("table 1", "guidance lowers the loss of zero-shot accuracy on held-out sets",
              "5.03 to −0.16 points", f"{points(lost[0])} to {points(lost[1])}", lost[1] < lost[0])
    ]  # fmt: skip
    for measure, text, published in (
        ("ip", "guidance raises in-context accuracy on held-out sets", "37.90 to 50.05"),
        ("op", "guidance helps new tasks with simple instructions (FUNC)", "43.34 to 69.48"),
    ):
        without, with_guidance = mean[method, measure], mean[guided, measure]
        ours = f"{percent(without)} to {percent(with_guidance)}"
        rows.append(Claim("table 1", text, published, ours, with_guidance > without))
    return rows
