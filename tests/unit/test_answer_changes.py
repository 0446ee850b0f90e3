"""Which answers changed: kinds by their courses, joined questions, shares and what lost answers became."""

import pandas as pd
import pytest

from anamnesis.core.steps import store_all
from anamnesis.stats.answer_changes import (
    KINDS,
    MOST_ANSWERS,
    MOST_CHARACTERS,
    answer_tables,
    collapses,
    read_changes,
    read_counts,
)

COURSES = {  # question -> score before training and after stages 1 and 2, and the kind of change
    "q0": ((1, 1, 1), "kept"),
    "q1": ((1, 0, 1), "returned"),
    "q2": ((1, 1, 0), "lost"),
    "q3": ((0, 0, 1), "gained"),
    "q4": ((0, 1, 0), "passing"),
    "q5": ((0, 0, 0), "never"),
    "q6": ((1.0, 0.6, 0.4), "lost"),  # a graded metric
}
CHAINS = [{"method": method, "order": 1, "seed": 7} for method in ("inclora", "inclora-ivg")]


def records(path, scores, answers, name="x"):
    rows = pd.DataFrame({"example_id": list(scores), "score": [float(s) for s in scores.values()]})
    rows = rows.assign(set=name, role="held_out", form="instruction", shots=0, target="yes")
    rows["prediction"] = ["yes" if s >= 0.5 else answers for s in rows["score"]]
    rows.to_parquet(path)
    return str(path)


@pytest.fixture
def made(tmp_path, request):
    """The tables of a plain chain and of a guided one in which nothing is lost."""
    split = getattr(request, "param", "test")  # the one that is evaluated
    task = pd.DataFrame({"example_id": list(COURSES), "split": split, "instruction": "Answer."})
    task = task.assign(input=[f"{name}? " + "long " * 200 for name in COURSES], knowledge_prompt=None)
    trained = task.assign(split="train", input="of another split")  # ids may come again in other splits
    pd.concat([trained, task]).to_parquet(tmp_path / "x.parquet")
    stages = [
        records(tmp_path / f"{k}.parquet", {n: c[k] for n, (c, _) in COURSES.items()}, ["no", "NA", ""][k])
        for k in range(3)
    ]
    same = [records(tmp_path / f"g{k}.parquet", dict.fromkeys(COURSES, 1), "no") for k in range(3)]
    right = [name in ("q1", "q2") for name in list(COURSES)[:4]]  # of the first four alone
    conditions = {"none": [False] * 4, "add": right, "random": [True] * 4}
    given = pd.DataFrame({"condition": list(conditions), "right": list(conditions.values()), "set": "x"})
    given.assign(**CHAINS[0]).to_parquet(tmp_path / "recovery.parquet")
    files = [str(tmp_path / "x.parquet")], [str(tmp_path / "recovery.parquet")]
    return answer_tables([*stages, stages[0], *same[1:]], CHAINS, 2, *files)


def test_the_kind_of_a_change_follows_its_course(made):
    changes, shares, _ = made
    plain = changes[changes["method"] == "inclora"].set_index("example_id")
    expected = {name: kind for name, (_, kind) in COURSES.items() if kind not in ("kept", "never")}
    assert plain["kind"].to_dict() == expected
    assert plain.loc["q2", "course"] == "right right wrong"
    counted = shares.set_index("method").loc["inclora"]
    assert counted["n"] == len(COURSES) == sum(counted[kind] for kind in KINDS)
    assert {kind: counted[kind] for kind in KINDS} == {
        "lost": 2, "returned": 1, "gained": 1, "passing": 1, "kept": 1, "never": 1}  # fmt: skip


@pytest.mark.parametrize("made", ["test", "validation"], indirect=True)
def test_a_row_has_the_question_and_the_answers_of_every_stage_and_of_guidance(made):
    row = made[0].query("method == 'inclora' and example_id == 'q2'").iloc[0]
    assert row["question"].startswith("q2? long")
    assert len(row["question"]) == MOST_CHARACTERS
    assert (row["instruction"], row["target"]) == ("Answer.", "yes")
    assert (row["before"], row["stage_1"], row["stage_2"], row["guided"]) == ("yes", "yes", "", "yes")
    assert set(made[0].query("method == 'inclora-ivg'")["guided"]) == {""}


def test_a_row_says_whether_the_vector_gives_the_answer_back(made):
    changes = made[0].query("method == 'inclora'").set_index("example_id")
    assert changes["with_vector"].to_dict() == {
        "q1": "right", "q2": "right", "q3": "wrong", "q4": "", "q6": ""}  # fmt: skip
    assert set(made[0].query("method == 'inclora-ivg'")["with_vector"]) <= {""}


def test_counts_say_what_lost_answers_became(made):
    counts = made[2].query("method == 'inclora'").set_index("answer")
    assert counts.loc["", "lost_to"] == 2
    assert counts.loc["yes", ["target", "before", "after"]].tolist() == [7, 4, 3]
    assert counts.loc["no", ["before", "after"]].tolist() == [3, 0]
    assert counts["lost_to"].is_monotonic_decreasing


def test_all_lost_answers_count_where_not_all_are_listed(tmp_path):
    """Of 40 lost answers 26 became one and 14 others: no collapse, though most of the listed ones are one."""
    names = [f"q{k}" for k in range(40)]
    before = records(tmp_path / "0.parquet", dict.fromkeys(names, 1), "")
    after = records(tmp_path / "1.parquet", dict.fromkeys(names, 0), "no")
    rows = pd.read_parquet(after)
    rows["prediction"] = ["no"] * 26 + [f"other {k}" for k in range(14)]
    rows.to_parquet(after)
    counts = answer_tables([before, after], CHAINS[:1], 1, [])[2]
    assert len(counts) == MOST_ANSWERS
    assert set(counts["lost"]) == {40}
    assert counts["lost_to"].max() == 26
    assert collapses(counts, least=0.7).empty
    assert list(collapses(counts, least=0.65)["lost"]) == [40]


def test_texts_that_look_like_missing_values_come_back_from_the_file(made, tmp_path):
    files = [tmp_path / name for name in ("changes.csv", "shares.csv", "counts.csv")]
    store_all([str(file) for file in files], made)
    pd.testing.assert_frame_equal(read_changes(files[0]), made[0], check_dtype=False)
    assert set(read_changes(files[0])["stage_1"]) == {"yes", "NA"}
    assert "" in set(read_counts(files[2])["answer"])
    pd.testing.assert_frame_equal(read_counts(files[1]), made[1], check_dtype=False, check_names=False)


def test_a_set_that_was_not_asked_after_a_stage_has_a_gap_there(tmp_path):
    asked = [records(tmp_path / f"{k}.parquet", {"q": right}, "no") for k, right in ((0, 1), (2, 0))]
    between = records(tmp_path / "1.parquet", {"other": 1}, "no", "another set")
    changes, shares, _ = answer_tables([asked[0], between, asked[1]], CHAINS[:1], 2, [])
    (row,) = changes.itertuples()
    assert (row.kind, row.course, row.stage_1, row.question) == ("lost", "right – wrong", "", "")
    assert shares["n"].tolist() == [1]


def test_a_run_without_chains_of_its_own_has_empty_tables():
    for table in answer_tables([], [], 2, []):
        assert table.empty
        assert {"method", "set"} <= set(table)


def test_any_text_comes_back_from_the_file(tmp_path):
    texts = [
        "a\rb",
        "a\r\nb",
        "a\nb",
        'q"uo,te',
        "null",
        "",
        "\u2028",
        "  blanks ",
        "1.0",
        "=1+1",
        "\\",
        "nul\x00",
    ]
    frame = pd.DataFrame({"set": "x", "example_id": "e", "before": texts, "stage_1": texts[::-1]})
    store_all([str(tmp_path / "changes.csv")], [frame])
    pd.testing.assert_frame_equal(read_changes(tmp_path / "changes.csv"), frame, check_dtype=False)
