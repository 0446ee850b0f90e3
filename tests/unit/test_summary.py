"""Table 1: levels, paired differences and their intervals, and the three written forms."""

import io
import math

import numpy as np
import pandas as pd
import pytest

from anamnesis.core.errors import UserError
from anamnesis.stats.forgetting import COLUMNS
from anamnesis.stats.intervals import bootstrap_interval, paired_interval
from anamnesis.stats.printed import latex_escape, table_cells, table_note, to_csv, to_latex, to_markdown
from anamnesis.stats.summary import (
    BASELINE,
    MEASURES,
    Chain,
    chain_measures,
    curves_frame,
    paired_differences,
    table1,
)


def chain(method, order, seed, ip_last, tasks=("a", "b")):
    """Two tasks, one held-out set: everything fixed but the few-shot score after the last stage."""
    zero = {"a": [0.1, 0.8, 0.6], "b": [0.2, 0.2, 0.9], "x": [0.5, 0.4, 0.3]}
    rows = []
    for stage in range(3):
        trained = tasks[stage - 1] if stage else None
        for name, values in zero.items():
            role = "held_out" if name == "x" else "train_task"
            rows.append((stage, trained, name, role, "instruction", 0, "accuracy", "sum", values[stage], 20))
        few = [0.7, 0.6, ip_last][stage]
        rows.append((stage, trained, "x", "held_out", "instruction", 5, "accuracy", "sum", few, 20))
    return Chain(method, order, seed, pd.DataFrame(rows, columns=list(COLUMNS)))


PLAIN, GUIDED = [0.20, 0.16, 0.30], [0.34, 0.46, 0.32]


@pytest.fixture
def measures():
    plain = [chain("inclora", 1, seed, value) for seed, value in enumerate(PLAIN)]
    guided = [chain("inclora-ivg", 1, seed, value) for seed, value in enumerate(GUIDED)]
    return chain_measures([*plain, *guided])


def cell(table, kind, method, measure):
    rows = table[(table["kind"] == kind) & (table["method"] == method) & (table["measure"] == measure)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_chain_measures(measures):
    assert list(measures["method"]) == [BASELINE, *["inclora"] * 3, *["inclora-ivg"] * 3]
    first = measures.iloc[1]
    assert (first["order"], first["seed"]) == (1, 0)
    assert [first[m] for m in MEASURES] == pytest.approx([0.3, 0.2, 0.75, 0.2, -0.2])
    before = measures.iloc[0]
    assert [before["hp"], before["ip"], before["op"]] == pytest.approx([0.5, 0.7, 0.15])
    assert math.isnan(before["forgetting"])
    assert pd.isna(before["seed"])


def test_one_row_before_training_when_orders_permute_the_tasks():
    measures = chain_measures([chain("inclora", 1, 0, 0.2), chain("inclora", 2, 0, 0.2, tasks=("b", "a"))])
    assert (measures["method"] == BASELINE).sum() == 1


def test_levels_have_mean_sd_and_n(measures):
    found = cell(table1(measures, resamples=200), "level", "inclora", "ip")
    assert found["mean"] == pytest.approx(np.mean(PLAIN))
    assert found["sd"] == pytest.approx(np.std(PLAIN, ddof=1))
    assert found["n"] == 3
    before = cell(table1(measures, resamples=200), "level", BASELINE, "ip")
    assert before["n"] == 1
    assert math.isnan(before["sd"])


def test_difference_is_paired_by_order_and_seed(measures):
    table = table1(measures, resamples=500)
    found = cell(table, "difference", "inclora", "ip")
    pairs = np.subtract(GUIDED, PLAIN)
    assert found["guided"] == "inclora-ivg"
    assert found["mean"] == pytest.approx(pairs.mean())
    assert found["sd"] == pytest.approx(pairs.std(ddof=1))
    assert found["n"] == 3
    half = 4.302653 * pairs.std(ddof=1) / 3**0.5  # 97.5 % quantile of Student's t with two degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((pairs.mean() - half, pairs.mean() + half))
    assert found["interval"] == "t"


def test_unpaired_chains_stay_out_of_the_difference():
    chains = [
        chain("m", 1, 0, 0.1),
        chain("m", 1, 1, 0.9),
        chain("m-ivg", 1, 0, 0.3),
        chain("m-ivg", 2, 1, 0.0),
    ]
    pairs = paired_differences(chain_measures(chains), "m", "m-ivg")
    assert list(pairs.index) == [(1, 0)]
    assert pairs["ip"].tolist() == pytest.approx([0.2])


def test_no_interval_below_two_pairs():
    table = table1(chain_measures([chain("m", 1, 0, 0.1), chain("m-ivg", 1, 0, 0.3)]), resamples=100)
    found = cell(table, "difference", "m", "ip")
    assert found["n"] == 1
    assert found["interval"] == ""
    assert math.isnan(found["low"])
    assert "With n = 1 there is no interval" in table_note(table)


def test_method_without_twin_has_no_difference():
    table = table1(chain_measures([chain("m", 1, 0, 0.1)]))
    assert set(table["kind"]) == {"level"}
    assert "Δ" not in table_note(table)


def test_interval_is_reproducible_and_depends_on_nothing_else(measures):
    assert bootstrap_interval(PLAIN, 300, seed=4) == bootstrap_interval(PLAIN, 300, seed=4)
    alone = cell(table1(measures, resamples=300), "difference", "inclora", "ip")
    extra = pd.concat([measures, measures.assign(method="other")])
    assert cell(table1(extra, resamples=300), "difference", "inclora", "ip")["low"] == alone["low"]


def test_interval_covers_the_mean_of_normal_samples():
    draws = np.random.default_rng(0).normal(0.1, 1.0, size=(60, 25))
    covered = 0
    for sample in draws:
        low, high, how = bootstrap_interval(sample, 400)
        assert how == "BCa"
        covered += low <= 0.1 <= high
    assert covered >= 50


def test_equal_differences_fall_back_to_percentile():
    assert bootstrap_interval([0.2, 0.2, 0.2], 100) == (pytest.approx(0.2), pytest.approx(0.2), "percentile")


def test_an_interval_that_ends_at_zero_contains_it():
    """Resampled means of differences that cancel each other are zero but for rounding, here 6e-19."""
    low, high, _ = bootstrap_interval(np.array([4, 0, 2, 1, -1, 1]) / 120, 10_000)
    assert low == 0.0 < high


def test_differences_that_are_all_equal_have_no_interval():
    """Two chains that agree by chance must not look certain."""
    low, high, how = paired_interval([0.1 + 0.2, 0.3], 100)
    assert math.isnan(low)
    assert math.isnan(high)
    assert how == ""
    chains = [chain(m, 1, s, 0.1 + (m == "m-ivg") / 5) for m in ("m", "m-ivg") for s in range(3)]
    table = table1(chain_measures(chains), resamples=100)
    assert cell(table, "difference", "m", "ip")["n"] == 3
    assert "with its interval (none); n:" in table_note(table)
    assert "Differences that are all equal have none" in table_note(table)
    assert "| +20.0 (n=3) |" in to_markdown(table)


def test_note_says_how_weak_few_pairs_are(measures):
    two = measures[measures["seed"].isna() | (measures["seed"] < 2)]
    assert "With n = 2 pairs it is weak evidence" in table_note(table1(two, resamples=100))
    many = chain_measures([chain(m, 1, s, 0.1 + s / 50) for m in ("m", "m-ivg") for s in range(6)])
    assert "weak" not in table_note(table1(many, resamples=100))


def test_the_table_says_what_options_were_ranked_by(measures):
    table = table1(measures)
    assert set(measures["scorer"]) == set(table["scorer"]) == {"sum"}
    assert (
        "Where options are given, the one with the highest log-probability of the whole answer (sum) is the "
        "answer: docs/reference/metrics.md."
    ) in to_markdown(table)


def test_csv_reads_back_as_written(measures):
    table = table1(measures, resamples=100)
    again = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=True)
    assert again["mean"].tolist() == pytest.approx(table["mean"].tolist(), nan_ok=True)
    assert again["n"].tolist() == table["n"].tolist()


def test_a_table_read_from_its_csv_prints_the_same_rows(measures):
    """Empty fields come back as missing values; no row may be lost by it."""
    table = table1(measures)
    read = pd.read_csv(io.StringIO(to_csv(table)))
    assert to_markdown(read) == to_markdown(table)


def test_every_cell_says_n(measures):
    header, rows = table_cells(table1(measures, resamples=100))
    assert header == ["Method", "HP", "IP", "OP", "Forgetting", "BWT"]
    assert [row[0] for row in rows] == [BASELINE, "inclora", "inclora-ivg", "Δ inclora-ivg − inclora"]
    assert rows[1][2] == "22.0 ± 7.2 (n=3)"
    assert rows[1][5] == "−20.0 ± 0.0 (n=3)"
    assert rows[0][4] == "–"
    assert all("(n=" in text for row in rows for text in row[1:] if text != "–")


def test_markdown_is_one_table_with_its_note(measures):
    text = to_markdown(table1(measures.replace({"method": {"inclora": "a|b"}}), resamples=100))
    lines = text.split("\n")
    assert lines[0].startswith("| Method | HP |")
    assert "| a\\|b |" in text
    assert {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")} == {7}
    assert "Per cent." in text


def test_latex_escapes_and_uses_booktabs(measures):
    text = to_latex(table1(measures.replace({"method": {"inclora": "in_50%&x"}}), resamples=100))
    assert r"in\_50\%\&x & " in text
    assert r"\toprule" in text
    assert text.count(r"\midrule") == 1  # no pair: no line before the differences
    assert to_latex(table1(measures, resamples=100)).count(r"\midrule") == 2
    assert text.isascii()


def test_latex_escape_covers_every_command_character():
    assert latex_escape(r"\{}~^#$") == (r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\#\$")


def test_curves_frame_identifies_chains():
    joined = curves_frame([chain("m", 1, 0, 0.1), chain("m-ivg", 2, 3, 0.1)])
    assert list(joined.columns) == ["method", "order", "seed", *COLUMNS, "empty"]
    assert joined[["method", "order", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["m", 1, 0],
        ["m-ivg", 2, 3],
    ]


def test_bad_chains_are_refused():
    with pytest.raises(UserError, match="no chain given"):
        chain_measures([])
    with pytest.raises(UserError, match="chain method=m order=1 seed=0 is given twice"):
        chain_measures([chain("m", 1, 0, 0.1), chain("m", 1, 0, 0.2)])
