"""What held-out sets lost, one by one, and which of them had nothing to lose."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anamnesis.stats.forgetting import knowledge_performance
from anamnesis.stats.held_out import (
    chance_levels,
    held_out_cells,
    held_out_markdown,
    held_out_table,
    mark_of,
    marks,
)
from anamnesis.stats.summary import Chain, chain_measures

# set, form, shots -> (before, after the last stage of three seeds); "easy" has both forms
VALUES = {
    ("easy", "instruction", 0): (0.8, [0.5, 0.4, 0.6]),
    ("easy", "instruction", 2): (0.7, [0.2, 0.3, 0.1]),
    ("easy", "knowledge", 0): (0.9, [0.9, 0.8, 1.0]),
    ("hopeless", "instruction", 0): (0.1, [0.1, 0.2, 0.0]),
    ("hopeless", "instruction", 2): (0.4, [0.2, 0.3, 0.1]),
    ("guessed", "instruction", 0): (0.55, [0.5, 0.6, 0.4]),
    ("guessed", "instruction", 2): (0.9, [0.7, 0.8, 0.6]),
}
RANKED = {"guessed", ("easy", "knowledge")}
CHANCE = {("guessed", "instruction"): 0.5, ("easy", "knowledge"): 0.25, ("easy", "instruction"): 0.0,
          ("hopeless", "instruction"): 0.0}  # fmt: skip


def chain(method: str, seed: int, shift: float = 0.0) -> Chain:
    rows = []
    for stage, task in ((0, None), (1, "task")):
        for (name, form, shots), (before, after) in VALUES.items():
            scorer = "sum" if name in RANKED or (name, form) in RANKED else "generated"
            value = before if stage == 0 else min(1.0, after[seed] + shift)
            rows.append((stage, task, name, "held_out", form, shots, "accuracy", scorer, value, 10))
        for shots in (0, 2):
            rows.append(
                (stage, task, "task", "train_task", "instruction", shots, "accuracy", "generated", 0.5, 10)
            )
    columns = ["stage", "trained_task", "set", "role", "form", "shots", "metric", "scorer", "value", "n"]
    return Chain(method, 1, seed, pd.DataFrame(rows, columns=columns))


CHAINS = [chain("inclora", seed) for seed in range(3)] + [
    chain("inclora-ivg", seed, 0.1) for seed in range(3)
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return held_out_table(CHAINS, CHANCE)


def row(table, measure, name, method="inclora"):
    found = table[(table["measure"] == measure) & (table["set"] == name) & (table["method"] == method)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(
    ("measure", "key"),
    [
        ("hp", ("easy", "instruction", 0)),
        ("ip", ("guessed", "instruction", 2)),
        ("knowledge", ("easy", "knowledge", 0)),
    ],
)
def test_a_set_has_its_value_before_and_the_change_over_chains_with_students_interval(table, measure, key):
    before, after = VALUES[key]
    found = row(table, measure, key[0])
    changes = np.array(after) - before
    half = stats.t.ppf(0.975, 2) * changes.std(ddof=1) / np.sqrt(3)
    assert found["before"] == pytest.approx(before, abs=1e-12)
    assert found["after"] == pytest.approx(np.mean(after))
    assert found["sd"] == pytest.approx(np.std(after, ddof=1))
    assert found["change"] == pytest.approx(changes.mean())
    assert (found["low"], found["high"]) == pytest.approx((changes.mean() - half, changes.mean() + half))
    assert (found["n"], found["interval"]) == (3, "t")


def test_the_mean_is_over_sets_in_each_chain_and_says_how_many_are_marked(table):
    found = row(table, "hp", "mean")
    after = np.mean([VALUES[name, "instruction", 0][1] for name in ("easy", "hopeless", "guessed")], axis=0)
    assert found["after"] == pytest.approx(after.mean())
    assert found["sd"] == pytest.approx(after.std(ddof=1))
    assert (found["sets"], found["marked"]) == (3, 2)
    assert row(table, "ip", "mean")["marked"] == 0
    assert row(table, "hp", "mean", "inclora-ivg")["after"] == pytest.approx(after.mean() + 0.1)


def test_whether_in_context_accuracy_falls_more_is_a_row_of_its_own(table):
    found = row(table, "ip_hp", "mean")
    names = ("easy", "hopeless", "guessed")
    changes = [
        np.mean(
            [
                np.array(VALUES[name, "instruction", shots][1]) - VALUES[name, "instruction", shots][0]
                for name in names
            ],
            axis=0,
        )
        for shots in (2, 0)
    ]
    apart = changes[0] - changes[1]
    assert found["change"] == pytest.approx(apart.mean())
    half = stats.t.ppf(0.975, 2) * apart.std(ddof=1) / np.sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx((apart.mean() - half, apart.mean() + half))


def test_means_agree_with_the_measures_of_table_1(table):
    measures = chain_measures(CHAINS).groupby("method")[["hp", "ip", "knowledge"]].mean()
    for method in ("inclora", "inclora-ivg"):
        for name in ("hp", "ip", "knowledge"):
            assert row(table, name, "mean", method)["after"] == pytest.approx(measures.loc[method, name])
    assert measures.loc["before training", "knowledge"] == 0.9


@pytest.mark.parametrize(
    ("before", "chance", "written", "mark"),
    [
        (0.29, 0.0, True, "floor"),
        (0.30, 0.0, True, ""),
        (0.74, 0.5, False, "chance"),
        (0.75, 0.5, False, ""),
        (0.37, 0.25, False, "chance"),
        (0.375, 0.25, False, ""),
    ],
)
def test_a_set_is_marked_below_one_and_a_half_times_chance_or_three_tenths(before, chance, written, mark):
    assert mark_of(before, chance, written) == mark


def test_marks_stand_with_the_sets(table):
    assert row(table, "hp", "hopeless")["mark"] == "floor"
    assert row(table, "hp", "guessed")["mark"] == "chance"
    assert row(table, "ip", "guessed")["mark"] == ""
    assert marks(table) == {"hopeless": "floor", "guessed": "chance"}
    printed = held_out_markdown(table)
    assert "hopeless (at floor)" in printed
    assert "guessed (at chance)" in printed
    assert "mean of 3 sets, 2 at floor or chance" in printed
    assert "mean of 1 set, none at floor or chance" in printed  # knowledge


def test_the_csv_prints_as_the_table_does(table, tmp_path):
    table.to_csv(tmp_path / "held_out.csv", index=False)
    again = pd.read_csv(tmp_path / "held_out.csv")
    assert held_out_cells(again) == held_out_cells(table)
    assert marks(again) == marks(table)


def test_many_methods_have_a_row_each():
    names = [f"method-{k}" for k in range(5)]
    table = held_out_table([chain(name, seed) for name in names for seed in range(2)], CHANCE)
    header, rows = held_out_cells(table)
    assert header == ["Measure", "Set", "Method", "Before", "After", "Δ"]
    assert len(rows) == len(table)
    assert [row[2] for row in rows[:5]] == names  # one set, all methods
    assert {row[1] for row in rows[:5]} == {"easy"}
    assert rows[0][3:5] == ["80.0", "45.0"]


def test_chance_is_that_of_guessing_among_the_options_of_each_question():
    first = pd.DataFrame({
        "set": ["a", "a", "b"], "form": "instruction", "choice_scores": [[0.1, 0.2], [0.1] * 4, None],
    })  # fmt: skip
    second = pd.DataFrame({"set": ["a"], "form": "instruction", "choice_scores": [[0.0] * 4]})
    expected = {("a", "instruction"): (1 / 2 + 1 / 4 + 1 / 4) / 3, ("b", "instruction"): 0.0}
    assert chance_levels([first.iloc[:0], first, second]) == pytest.approx(expected)


def test_chance_that_is_not_known_marks_no_ranked_set():
    unknown = held_out_table(CHAINS, {})
    assert marks(unknown) == {"hopeless": "floor"}
    assert row(unknown, "hp", "guessed")["chance"] is np.nan or np.isnan(
        row(unknown, "hp", "guessed")["chance"]
    )


def test_without_a_knowledge_form_there_is_no_such_row():
    chains = [Chain(c.method, c.order, c.seed, c.frame[c.frame["form"] == "instruction"]) for c in CHAINS]
    assert set(held_out_table(chains, CHANCE)["measure"]) == {"hp", "ip", "ip_hp"}
    assert np.isnan(knowledge_performance(chains[0].frame))
