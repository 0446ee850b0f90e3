"""Chains read from the evaluations of their stages."""

from __future__ import annotations

import pandas as pd
import pytest

from anamnesis.core.artifacts import write_parquet
from anamnesis.core.errors import UserError
from anamnesis.stats import chains as module
from anamnesis.stats.chains import read_chains, read_chance

ORDERS = [["a", "b"], ["b", "a"]]
CHAINS = [
    {"method": "inclora", "order": 1, "seed": 0},
    {"method": "lwf", "order": 2, "seed": 5},
]


def write(path, a: list[float], b: list[float], options: int = 2) -> str:
    """An evaluation of the sets a (which has options) and b (whose answers are written)."""
    rows = [("a", score, [0.1] * options, "sum") for score in a]
    rows += [("b", score, None, "generated") for score in b]
    table = pd.DataFrame(rows, columns=["set", "score", "choice_scores", "scorer"])
    same = {"role": "train_task", "form": "instruction", "shots": 0, "metric": "accuracy", "example_id": "x"}
    write_parquet(path, table.assign(**same, empty=(table.scorer == "generated") & (table.score == 0)))
    return str(path)


@pytest.fixture
def evaluations(tmp_path) -> list[str]:
    """Stages 0 to 2 of both chains, which begin with the same model."""
    base = write(tmp_path / "base.parquet", [0.0, 1.0], [0.0, 0.5])
    first = [write(tmp_path / f"first{s}.parquet", [1.0, 1.0], [0.5, s / 2]) for s in (1, 2)]
    second = [write(tmp_path / f"second{s}.parquet", [0.0, s / 2], [1.0, 1.0]) for s in (1, 2)]
    return [base, *first, base, *second]


def cells(frame: pd.DataFrame) -> list[list]:
    return frame[["stage", "trained_task", "set", "value", "n"]].to_numpy().tolist()


def test_each_chain_has_its_own_stages_and_the_tasks_of_its_order(evaluations):
    first, second = read_chains(evaluations, CHAINS, ORDERS)
    assert (first.method, first.order, first.seed) == ("inclora", 1, 0)
    assert (second.method, second.order, second.seed) == ("lwf", 2, 5)
    assert cells(first.frame) == [
        [0, None, "a", 0.5, 2], [0, None, "b", 0.25, 2],
        [1, "a", "a", 1.0, 2], [1, "a", "b", 0.5, 2],
        [2, "b", "a", 1.0, 2], [2, "b", "b", 0.75, 2],
    ]  # fmt: skip
    assert first.frame["empty"].tolist() == [0, 0.5, 0, 0, 0, 0]
    assert cells(second.frame) == [
        [0, None, "a", 0.5, 2], [0, None, "b", 0.25, 2],
        [1, "b", "a", 0.25, 2], [1, "b", "b", 1.0, 2],
        [2, "a", "a", 0.5, 2], [2, "a", "b", 1.0, 2],
    ]  # fmt: skip


def test_the_evaluation_that_chains_share_is_read_once(evaluations, monkeypatch):
    opened, read = [], module.read_batches

    def watched(path, columns):
        opened.append(path)
        return read(path, columns)

    monkeypatch.setattr(module, "read_batches", watched)
    read_chains(evaluations, CHAINS, ORDERS)
    assert opened == list(dict.fromkeys(evaluations))


def test_a_missing_evaluation_is_not_passed_over(evaluations):
    with pytest.raises(ValueError, match="shorter"):
        read_chains(evaluations[:5], CHAINS, ORDERS)


def test_a_bad_score_is_named_with_its_file(evaluations, tmp_path):
    broken = write(tmp_path / "broken.parquet", [2.0], [0.0])
    with pytest.raises(UserError, match=r"broken\.parquet: score 2\.0 on set 'a'"):
        read_chains([*evaluations[:5], broken], CHAINS, ORDERS)


def test_chance_is_that_of_the_first_evaluation(evaluations, tmp_path):
    other = write(tmp_path / "other.parquet", [1.0], [1.0], options=4)
    assert read_chance([other, *evaluations]) == {("a", "instruction"): 0.25, ("b", "instruction"): 0.0}
    assert read_chance([*evaluations, other]) == {("a", "instruction"): 0.5, ("b", "instruction"): 0.0}
    assert read_chance([]) == {}
