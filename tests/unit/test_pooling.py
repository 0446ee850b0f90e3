"""Chains of other runs in the tables of this one."""

import logging

import pandas as pd
import pytest
from test_summary import chain

from anamnesis.core.errors import UserError
from anamnesis.stats.pooling import chains_of, pooled
from anamnesis.stats.summary import BASELINE, chain_measures, curves_frame, table1

ORDERS = [["a", "b"], ["b", "a"]]
HERE = [chain("inclora", 1, 0, 0.2), chain("inclora-ivg", 1, 0, 0.3)]
THERE = [chain("inclora", 1, 1, 0.4), chain("inclora-ivg", 1, 1, 0.7)]


def other(*chains, **columns) -> list[tuple[str, pd.DataFrame]]:
    return [("elsewhere.parquet", curves_frame(chains).assign(**columns))]


def test_pooled_runs_give_the_table_of_one_run_of_all_seeds():
    separate = pooled(HERE, other(*THERE), ORDERS)
    together = table1(chain_measures([*HERE, *THERE]))
    pd.testing.assert_frame_equal(table1(chain_measures(separate)), together)
    difference = together[(together.kind == "difference") & (together.measure == "ip")].iloc[0]
    assert (difference["n"], difference["mean"]) == (2, pytest.approx(0.2))


def test_chains_come_back_from_the_file_they_were_written_to(tmp_path):
    curves_frame([*HERE, *THERE]).to_parquet(tmp_path / "accuracy.parquet")
    read = chains_of(pd.read_parquet(tmp_path / "accuracy.parquet"), "accuracy.parquet")
    pd.testing.assert_frame_equal(chain_measures(read), chain_measures([*HERE, *THERE]))


def test_the_row_before_training_is_this_runs():
    curves = curves_frame(THERE)
    first = (curves["stage"] == 0) & (curves["set"] == "a")
    curves.loc[first, "value"] += 1 / curves.loc[first, "n"]  # another processor
    measures = chain_measures(pooled(HERE, [("elsewhere.parquet", curves)], ORDERS))
    own = chain_measures(HERE)
    pd.testing.assert_frame_equal(measures[:1], own[:1])
    assert list(measures["method"]).count(BASELINE) == 1


def test_a_run_without_chains_of_its_own_has_those_of_others():
    separate = pooled([], other(*HERE, *THERE), ORDERS)
    pd.testing.assert_frame_equal(chain_measures(separate), chain_measures([*HERE, *THERE]))
    with pytest.raises(UserError, match=r"third.parquet, chain method=inclora .*: trained on b, c"):
        pooled([], [*other(*HERE), ("third.parquet", _renamed(curves_frame(THERE)))], ORDERS)
    with pytest.raises(UserError, match=r"statistics.pool: elsewhere.parquet has no chains: take that of"):
        pooled([], [("elsewhere.parquet", curves_frame(HERE)[:0])], ORDERS)


def _renamed(curves: pd.DataFrame) -> pd.DataFrame:
    names = {"a": "b", "b": "c"}
    return curves.assign(**{column: curves[column].replace(names) for column in ("set", "trained_task")})


def test_nothing_pooled_is_this_run_alone():
    assert pooled(HERE, [], ORDERS) == HERE


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (other(chain("inclora", 1, 0, 0.9)), "seed=0 of elsewhere.parquet has other scores in this run"),
        (
            [*other(THERE[0]), ("third.parquet", curves_frame([chain("inclora", 1, 1, 0.9)]))],
            "seed=1 of third.parquet has other scores in elsewhere.parquet",
        ),
        (other(THERE[0], value=73.0), "elsewhere.parquet has the score 73.0, not within 0 to 1"),
        (other(chain("inclora", 0, 1, 0.4)), "which is not this order in suite.orders"),
        (other(chain("inclora", 2, 1, 0.4)), "trained on a, b, which is not this order in suite.orders"),
        (other(chain("inclora", 3, 1, 0.4)), "which is not this order in suite.orders"),
        (other(THERE[0], n=40), r"evaluated otherwise \(.* n (20|40)\)"),
        (other(THERE[0], scorer="per_token"), "evaluated otherwise .*scorer"),
    ],
)
def test_runs_that_cannot_stand_in_one_table_are_refused(others, message):
    with pytest.raises(UserError, match=message):
        pooled(HERE, others, ORDERS)


def test_a_file_that_is_no_accuracy_table_is_named():
    with pytest.raises(UserError, match=r"elsewhere.parquet has no column 'seed': .* beside table1.csv"):
        pooled(HERE, [("elsewhere.parquet", curves_frame(THERE).drop(columns="seed"))], ORDERS)


@pytest.mark.parametrize(("examples", "warned"), [(1, False), (2, True)])
def test_other_scores_before_training_are_a_warning_beyond_one_example(examples, warned, caplog):
    curves = curves_frame(THERE)
    first = (curves["stage"] == 0) & (curves["set"] == "a")
    curves.loc[first, "value"] += examples / curves.loc[first, "n"]
    with caplog.at_level(logging.WARNING):
        pooled(HERE, [("elsewhere.parquet", curves)], ORDERS)
    assert ("differ by up to 2 examples a set" in caplog.text) == warned
    assert len(caplog.records) == warned


def test_runs_that_pool_each_other_count_every_chain_once():
    third = [chain("inclora", 1, 2, 0.5)]
    there = ("there.parquet", curves_frame(pooled(THERE, other(*HERE), ORDERS)))
    found = pooled(third, [*other(*HERE), there], ORDERS)
    assert [(c.method, c.seed) for c in found] == [(c.method, c.seed) for c in [*third, *HERE, *THERE]]
