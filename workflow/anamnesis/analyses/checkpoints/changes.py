"""How much of a task's accuracy is lost in which form (arXiv 2406.12227, figure 3 and its text). No torch."""

from __future__ import annotations

import pandas as pd

from anamnesis.stats.forgetting import few_shots

FORMS = ("instruction, zero-shot", "instruction, few-shot", "knowledge, zero-shot")


def form_changes(curves: pd.DataFrame) -> pd.DataFrame:
    """Change of accuracy from before training to after the last stage, per chain, role and form.

    Parameters
    ----------
    curves : accuracy of all chains (``stats.summary.curves_frame``).

    Returns
    -------
    Frame ``method, order, seed, role, form, sets, before, after, change`` (fractions): means over the
    ``sets`` that have the form. Held-out sets with a knowledge form have rows of their own, role
    "both_forms", so that instruction and knowledge are compared on the same sets.
    """
    shots = few_shots(curves)
    known = set(curves.loc[(curves["role"] == "held_out") & (curves["form"] == "knowledge"), "set"])
    kinds = dict(zip(FORMS, (("instruction", 0), ("instruction", shots), ("knowledge", 0)), strict=True))
    groups = {role: curves[curves["role"] == role] for role in ("train_task", "held_out")}
    groups["both_forms"] = groups["held_out"][groups["held_out"]["set"].isin(known)]
    rows = []
    for role, frame in groups.items():
        for label, (form, count) in kinds.items():
            if form == "knowledge" and role != "both_forms":
                continue
            part = frame[(frame["form"] == form) & (frame["shots"] == count)]
            for chain, data in part.groupby(["method", "order", "seed"], sort=False):
                mean = data.groupby("stage")["value"].mean()
                first, last = float(mean.loc[mean.index.min()]), float(mean.loc[mean.index.max()])
                rows.append((*chain, role, label, data["set"].nunique(), first, last, last - first))
    columns = ["method", "order", "seed", "role", "form", "sets", "before", "after", "change"]
    return pd.DataFrame(rows, columns=columns)


def steepest_drop(curves: pd.DataFrame, role: str) -> float:
    """The largest mean loss per stage, over the sets of a role, after the best stage of each; in fractions.

    For every chain and set: from its highest zero-shot accuracy to the last, divided by the stages between.
    """
    part = curves[(curves["role"] == role) & (curves["form"] == "instruction") & (curves["shots"] == 0)]
    drops = []
    for _, data in part.groupby(["method", "order", "seed", "set"], sort=False):
        values = data.set_index("stage")["value"]
        best, last = int(values.idxmax()), int(values.index.max())
        if best < last:
            drops.append(float(values[best] - values[last]) / (last - best))
    return max(drops, default=0.0)
