"""Tasks of lm-evaluation-harness in a run: what is made, where it arrives, and that it is made once."""

from __future__ import annotations

import pandas as pd
import pytest

from harness_tasks import write_tasks
from runs import MODEL, STAGES, SUITE

pytest.importorskip("lm_eval", reason="needs the extra harness: pip install 'anamnesis[harness]'")

TABLES = [str(SUITE / "harness.csv"), str(SUITE / "held_out.csv")]
STAGES_ASKED = [MODEL / "small/base/stage0", *(folder for folder in STAGES if "ivg" not in str(folder))]


@pytest.fixture(scope="module")
def asked(whole, tmp_path_factory):
    """The finished experiment with one method of the two, and then with tasks of the harness; its plan."""
    folder = write_tasks(tmp_path_factory.mktemp("tasks"), documents=4)
    named = {"harness": ["sums", "sums_text"], "harness_folder": str(folder), "harness_shots": 1}
    copy = whole.copy(tmp_path_factory.mktemp("copy") / "run")
    run = copy.with_config({"training": {"methods": ["inclora"]}, "evaluation": named})
    plan = run.plan(*TABLES)
    done = run.run(*TABLES)
    assert done.returncode == 0, done.stdout
    return run, plan


def test_only_these_evaluations_and_the_tables_are_made(asked):
    """Nothing is trained again, and no set of the suite asked again."""
    assert asked[1] == [
        "evaluate_harness method=inclora, order=1, seed=0, stage=1",
        "evaluate_harness method=inclora, order=1, seed=0, stage=2",
        "evaluate_harness_base",
        "tabulate_harness",
        "tabulate_results",
    ]


def test_nothing_is_made_twice(asked):
    assert asked[0].plan(*TABLES) == []


def test_tasks_with_an_accuracy_stand_in_the_held_out_table_and_the_accuracy_matrix(asked, whole):
    folder = asked[0].folder
    held_out = pd.read_csv(folder / SUITE / "held_out.csv")
    rows = held_out[held_out["measure"] == "harness"].set_index("set")
    assert list(rows.index) == ["sums_choice", "sums_write", "mean"]
    base, *_, last = (pd.read_parquet(folder / stage / "harness.parquet") for stage in STAGES_ASKED)
    for end, records in (("before", base), ("after", last)):
        means = records.groupby("set")["score"].mean()
        assert rows.loc[["sums_choice", "sums_write"], end].to_dict() == pytest.approx(means.to_dict())
    assert rows.loc["sums_choice", "chance"] == pytest.approx(1 / 3)
    matrix = pd.read_parquet(folder / SUITE / "accuracy.parquet")
    assert sorted(matrix.loc[matrix["set"] == "sums_choice", "stage"]) == [0, 1, 2]
    # what is said of the suite's sets is as it was
    before = pd.read_csv(whole.folder / SUITE / "held_out.csv")
    own = before[before["method"] == "inclora"].reset_index(drop=True)
    same = held_out[held_out["measure"] != "harness"].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, own, check_exact=True)
    measures, earlier = (
        pd.read_parquet(run.folder / SUITE / "measures.parquet").query("method != 'inclora-ivg'")
        for run in (asked[0], whole)
    )
    pd.testing.assert_frame_equal(measures, earlier, check_exact=True)


def test_all_metrics_have_a_table_of_their_own(asked):
    table = pd.read_csv(asked[0].folder / SUITE / "harness.csv")
    assert set(table["metric"]) == {"acc", "acc_norm", "exact_match", "word_perplexity", "bits_per_byte"}
    perplexity = table[table["metric"] == "word_perplexity"]
    assert list(zip(perplexity["method"], perplexity["stage"], strict=True)) == [
        ("inclora", 0),
        ("inclora", 1),
        ("inclora", 2),
    ]
    assert (perplexity["value"] > 1).all()
    assert set(table["shots"]) == {1}


def test_a_folder_that_is_not_there_ends_the_run_before_it_begins(asked):
    done = asked[0].with_config({"evaluation": {"harness_folder": "nowhere"}}).run("--dry-run")
    assert done.returncode == 1
    named = "evaluation.harness_folder = 'nowhere': no such folder"
    (line,) = (line for line in done.stdout.splitlines() if named in line)
    assert "configuration:" in line
