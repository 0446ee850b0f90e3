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
    """A plain method and its guided form, two seeds each."""
    return [
        chain(method, seed, value)
        for method, values in (("inclora", PLAIN), ("inclora-ivg", GUIDED))
        for seed, value in enumerate(values)
    ]


def ranked_heads() -> pd.DataFrame:
    """Three heads, two of them selected."""
    rows = [
        (1, 3, 2, 0.121, 0.012, 50, 4, True),
        (2, 1, 0, 0.02, 0.015, 50, 4, True),
        (3, 0, 1, -0.1, 0.01, 50, 4, False),
    ]
    names = ["rank", "layer", "head", "effect", "standard_error", "n_prompts", "n_tasks", "selected"]
    return pd.DataFrame(rows, columns=names)


def intervened() -> pd.DataFrame:
    """On validation examples the second layer is best for adding and the third for removing; on test examples
    the third and the second.
    """
    rows = [("test", -1, "none", "zero-shot", 0.02, 50), ("test", -1, "few-shot", "few-shot", 0.6, 50)]
    tried = [(0.1, 0.5, 0.02), (0.52, 0.1, 0.04), (0.7, 0.2, 0.5)]
    for layer, (add, remove, random) in enumerate(tried):
        rows.append(("test", layer, "add", "zero-shot", add, 50))
        rows.append(("test", layer, "remove", "few-shot", remove, 50))
        rows.append(("test", layer, "random", "zero-shot", random, 50))
    for layer, (add, remove) in enumerate([(0.1, 0.5), (0.4, 0.3), (0.3, 0.2)]):
        rows.append(("validation", layer, "add", "zero-shot", add, 30))
        rows.append(("validation", layer, "remove", "few-shot", remove, 30))
    frame = pd.DataFrame(rows, columns=["split", "layer", "condition", "base", "accuracy", "n"])
    return frame.assign(set="antonym")
