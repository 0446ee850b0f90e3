"""What held-out sets lost, one by one, and which of them had nothing to lose."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anamnesis.stats import held_out as module
from anamnesis.stats.forgetting import knowledge_performance
from anamnesis.stats.held_out import (
    chance_levels,
    held_out_cells,
    held_out_markdown,
    held_out_table,
    mark_of,
    marks,
    set_label,
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


@pytest.fixture
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


def test_a_mark_is_that_of_the_instruction_form_without_demonstrations():
    frame = CHAINS[0].frame.copy()
    others = (frame["set"] == "easy") & ((frame["shots"] == 2) | (frame["form"] == "knowledge"))
    frame.loc[others & (frame["stage"] == 0), "value"] = 0.1
    table = held_out_table([Chain("inclora", 1, 0, frame)], CHANCE)
    assert [row(table, m, "easy")["mark"] for m in ("hp", "ip", "knowledge")] == ["", "floor", "chance"]
    assert marks(table) == {"hopeless": "floor", "guessed": "chance"}


def test_the_csv_prints_as_the_table_does(table, tmp_path):
    table.to_csv(tmp_path / "held_out.csv", index=False)
    again = pd.read_csv(tmp_path / "held_out.csv")
    assert held_out_cells(again) == held_out_cells(table)
    assert marks(again) == marks(table)


# Differences of sd 0.1 have 0.2484 = t(0.975, 2) · 0.1 / √3 on both sides.
PRINTED = """\
instruction, zero-shot (HP)|easy|80.0|50.0|−30.0 [−54.8, −5.2] (n=3)|60.0|−20.0 [−44.8, +4.8] (n=3)
instruction, zero-shot (HP)|hopeless (at floor)|10.0|10.0|+0.0 [−24.8, +24.8] (n=3)|20.0|+10.0 [−14.8, +34.8] (n=3)
instruction, zero-shot (HP)|guessed (at chance)|55.0|50.0|−5.0 [−29.8, +19.8] (n=3)|60.0|+5.0 [−19.8, +29.8] (n=3)
instruction, zero-shot (HP)|mean of 3 sets, 2 at floor or chance|48.3|36.7|−11.7 [−19.9, −3.4] (n=3)|46.7|−1.7 [−9.9, +6.6] (n=3)
instruction, few-shot (IP)|easy|70.0|20.0|−50.0 [−74.8, −25.2] (n=3)|30.0|−40.0 [−64.8, −15.2] (n=3)
instruction, few-shot (IP)|hopeless|40.0|20.0|−20.0 [−44.8, +4.8] (n=3)|30.0|−10.0 [−34.8, +14.8] (n=3)
instruction, few-shot (IP)|guessed|90.0|70.0|−20.0 [−44.8, +4.8] (n=3)|80.0|−10.0 [−34.8, +14.8] (n=3)
instruction, few-shot (IP)|mean of 3 sets, none at floor or chance|66.7|36.7|−30.0 [−54.8, −5.2] (n=3)|46.7|−20.0 [−44.8, +4.8] (n=3)
knowledge, zero-shot|easy|90.0|90.0|+0.0 [−24.8, +24.8] (n=3)|96.7|+6.7 [−7.7, +21.0] (n=3)
knowledge, zero-shot|mean of 1 set, none at floor or chance|90.0|90.0|+0.0 [−24.8, +24.8] (n=3)|96.7|+6.7 [−7.7, +21.0] (n=3)
few-shot minus zero-shot (IP − HP)|mean of 3 sets, 2 at floor or chance|18.3|0.0|−18.3 [−34.9, −1.8] (n=3)|0.0|−18.3 [−34.9, −1.8] (n=3)
"""  # noqa: E501


def test_the_printed_table_by_hand(table):
    header, rows = held_out_cells(table)
    assert header == ["Measure", "Set", "Before", "inclora", "Δ inclora", "inclora-ivg", "Δ inclora-ivg"]
    assert rows == [line.split("|") for line in PRINTED.splitlines()]


def test_many_methods_have_a_row_each():
    names = [f"method-{k}" for k in range(5)]
    table = held_out_table([chain(name, 0) for name in names], CHANCE)
    header, rows = held_out_cells(table)
    assert header == ["Measure", "Set", "Method", "Before", "After", "Δ"]
    sets = [line.split("|")[:2] for line in PRINTED.splitlines()]
    assert [row[:3] for row in rows] == [[*one, name] for one in sets for name in names]
    assert rows[0][3:] == ["80.0", "50.0", "−30.0 (n=1)"]
    four = held_out_table([chain(name, 0) for name in names[:4]], CHANCE)
    assert len(held_out_cells(four)[0]) == 3 + 2 * 4


def test_every_row_says_what_guessing_gives_and_whether_there_was_something_to_lose(table):
    rows = table[table["method"] == "inclora-ivg"][["measure", "set", "sets", "chance", "mark", "marked"]]
    assert rows.fillna(-1).to_numpy().tolist() == [
        ["hp", "easy", 1, 0.0, "", 0],
        ["hp", "hopeless", 1, 0.0, "floor", 1],
        ["hp", "guessed", 1, 0.5, "chance", 1],
        ["hp", "mean", 3, -1, "", 2],
        ["ip", "easy", 1, 0.0, "", 0],
        ["ip", "hopeless", 1, 0.0, "", 0],
        ["ip", "guessed", 1, 0.5, "", 0],
        ["ip", "mean", 3, -1, "", 0],
        ["knowledge", "easy", 1, 0.25, "", 0],
        ["knowledge", "mean", 1, -1, "", 0],
        ["ip_hp", "mean", 3, -1, "", 2],
    ]
    assert list(table.columns) == list(module.COLUMNS)
    assert set(table["confidence"]) == {0.95}


def test_a_set_that_has_nothing_to_lose_in_both_forms_counts_once():
    frames = [c.frame.copy() for c in CHAINS[:3]]
    for frame in frames:
        few = (frame["set"] == "easy") & (frame["shots"] == 2)  # has nothing to lose there only
        frame.loc[((frame["set"] == "hopeless") | few) & (frame["stage"] == 0), "value"] = 0.1
    chains = [Chain("inclora", 1, k, frame) for k, frame in enumerate(frames)]
    table = held_out_table(chains, CHANCE)
    assert [row(table, m, "mean")["marked"] for m in ("hp", "ip", "ip_hp")] == [2, 2, 3]


def test_each_chain_is_compared_with_its_own_start():
    """Runs that are pooled may differ before training."""
    starts = {0: [0.8, 0.7, 0.6], 2: [0.7, 0.55, 0.9]}
    chains = []
    for k, one in enumerate(CHAINS[:3]):
        frame = one.frame.copy()
        for shots, values in starts.items():
            chosen = (frame["set"] == "easy") & (frame["form"] == "instruction") & (frame["shots"] == shots)
            frame.loc[chosen & (frame["stage"] == 0), "value"] = values[k]
        chains.append(Chain("inclora", 1, k, frame))
    table = held_out_table(chains, CHANCE)
    changes = {}
    for shots, values in starts.items():
        per_set = [np.array(VALUES["easy", "instruction", shots][1]) - values]
        for name in ("hopeless", "guessed"):
            before, after = VALUES[name, "instruction", shots]
            per_set.append(np.array(after) - before)
        changes[shots] = np.mean(per_set, axis=0)
    wanted = {"hp": changes[0], "ip": changes[2], "ip_hp": changes[2] - changes[0]}
    for measure, values in wanted.items():
        half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
        found = row(table, measure, "mean")
        assert found["change"] == pytest.approx(values.mean())
        assert (found["low"], found["high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    assert row(table, "hp", "easy")["before"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("options", "how"), [({}, (10_000, 0.95)), ({"resamples": 77, "confidence": 0.8}, (77, 0.8))]
)
def test_intervals_are_as_asked_for(options, how, monkeypatch):
    asked = []

    def interval(values, *settings):
        asked.append(settings)
        return -1.0, 1.0, "BCa"

    monkeypatch.setattr(module, "paired_interval", interval)
    table = held_out_table(CHAINS, CHANCE, **options)
    assert asked == [how] * len(table)
    assert set(table["confidence"]) == {how[1]}
    assert set(table["interval"]) == {"BCa"}


def test_one_chain_has_neither_spread_nor_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of numpy, about the spread of one value
        table = held_out_table(CHAINS[:1], CHANCE)
    assert table[["sd", "low", "high", "confidence"]].isna().all(axis=None)
    assert set(table["interval"]) == {""}
    assert set(table["n"]) == {1}
    assert row(table, "hp", "easy")["change"] == pytest.approx(-0.3)


def test_two_chains_have_a_spread():
    found = row(held_out_table(CHAINS[:2], CHANCE), "hp", "easy")
    assert found["sd"] == pytest.approx(0.1 / 2**0.5)  # of 0.5 and 0.4


def test_knowledge_with_demonstrations_is_a_measure_of_its_own():
    frames = [c.frame.copy() for c in CHAINS[:3]]
    few = [f[(f["form"] == "knowledge")].assign(shots=2, value=f["value"] / 2) for f in frames]
    chains = [
        Chain("inclora", 1, k, pd.concat([f, g])) for k, (f, g) in enumerate(zip(frames, few, strict=True))
    ]
    table = held_out_table(chains, CHANCE)
    assert row(table, "knowledge_few", "easy")["before"] == pytest.approx(0.45)
    assert held_out_cells(table)[1][-3][0] == "knowledge, few-shot"


def test_a_gap_may_be_negative():
    """Few-shot accuracy below zero-shot accuracy; no set is below chance then."""
    frame = CHAINS[0].frame.copy()
    frame.loc[(frame["shots"] == 2) & (frame["role"] == "held_out") & (frame["stage"] == 1), "value"] = 0.1
    (*_, last) = held_out_cells(held_out_table([Chain("inclora", 1, 0, frame)], CHANCE))[1]
    assert last[2:] == ["18.3", "−26.7", "−45.0 (n=1)"]  # 10.0 − (50 + 10 + 50) / 3


def test_labels_of_sets_and_means():
    assert set_label({"set": "a", "mark": np.nan}) == "a"  # as a CSV has it
    assert set_label({"set": "mean", "sets": 1, "marked": 1}) == "mean of 1 set, 1 at floor or chance"


def test_chance_is_that_of_guessing_among_the_options_of_each_question():
    first = pd.DataFrame({
        "set": ["a", "a", "b"], "form": "instruction", "choice_scores": [[0.1, 0.2], [0.1] * 4, None],
    })  # fmt: skip
    second = pd.DataFrame({"set": ["a"], "form": "instruction", "choice_scores": [[0.0] * 4]})
    expected = {("a", "instruction"): (1 / 2 + 1 / 4 + 1 / 4) / 3, ("b", "instruction"): 0.0}
    assert chance_levels([first.iloc[:0], first, second]) == pytest.approx(expected)
    names = pd.CategoricalDtype(["a", "unused", "b"])
    assert chance_levels([first.astype({"set": names}), second]) == pytest.approx(expected)


def test_chance_that_is_not_known_marks_no_ranked_set():
    unknown = held_out_table(CHAINS, {})
    assert marks(unknown) == {"hopeless": "floor"}
    text = held_out_markdown(unknown)
    assert text.endswith(" n chains of one start. Chance is not known, and not marked, for guessed, easy.\n")
    assert held_out_markdown(held_out_table(CHAINS, CHANCE)).endswith("over n chains of one start.\n")
    assert text.startswith("\n## Held-out sets, one by one\n\n| Measure | Set | Before | inclora |")
    assert row(unknown, "hp", "guessed")["chance"] is np.nan or np.isnan(
        row(unknown, "hp", "guessed")["chance"]
    )


def test_without_a_knowledge_form_there_is_no_such_row():
    chains = [Chain(c.method, c.order, c.seed, c.frame[c.frame["form"] == "instruction"]) for c in CHAINS]
    assert set(held_out_table(chains, CHANCE)["measure"]) == {"hp", "ip", "ip_hp"}
    assert np.isnan(knowledge_performance(chains[0].frame))


def test_what_is_left_is_that_after_the_last_stage():
    one = chain("plain", 0)
    last = one.frame[one.frame["stage"] == 1]
    between = last.assign(value=0.0)
    longer = pd.concat(
        [one.frame[one.frame["stage"] == 0], between, last.assign(stage=2, trained_task="next")]
    )
    short, long = (held_out_table([Chain("plain", 1, 0, frame)], CHANCE) for frame in (one.frame, longer))
    pd.testing.assert_frame_equal(long, short)
