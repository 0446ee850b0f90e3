"""Chains of two tasks and a held-out set with numbers of one's own, for tests of report and headline."""

import pandas as pd

from anamnesis.stats.forgetting import COLUMNS
from anamnesis.stats.summary import Chain

PLAIN, GUIDED = [0.20, 0.16], [0.34, 0.46]


def chain(method, seed, ip_last):
    rows = []
    for stage in range(3):
        trained = ["a", "b"][stage - 1] if stage else None
        levels = {"a": [0.1, 0.8, 0.6], "b": [0.2, 0.2, 0.9], "x": [0.5, 0.4, 0.3]}
        for name, values in levels.items():
            role = "held_out" if name == "x" else "train_task"
            rows.append((stage, trained, name, role, "instruction", 0, "accuracy", "sum", values[stage], 20))
        rows.append(
            (
                stage,
                trained,
                "x",
                "held_out",
                "instruction",
                5,
                "accuracy",
                "sum",
                [0.7, 0.6, ip_last][stage],
                20,
            )
        )
        rows.append(
            (stage, trained, "x", "held_out", "knowledge", 0, "accuracy", "sum", [0.5, 0.5, 0.52][stage], 20)
        )
    return Chain(method, 1, seed, pd.DataFrame(rows, columns=list(COLUMNS)))


def both_methods():
    """A plain method and its guided twin, two seeds each."""
    return [
        chain(method, seed, value)
        for method, values in (("inclora", PLAIN), ("inclora-ivg", GUIDED))
        for seed, value in enumerate(values)
    ]
