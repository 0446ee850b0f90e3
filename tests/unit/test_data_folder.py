"""Benchmark files of data.root: their forms, instructions, what is left out, and clear errors."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_files import by_row, free_rows, option_rows, settings, write_folder_task

from anamnesis.core.errors import UserError
from anamnesis.data.instructions import complete_instruction, default_instruction
from anamnesis.data.preparation import load_task


def test_option_texts_give_lettered_and_knowledge_form(tmp_path):
    write_folder_task(tmp_path, "quiz", option_rows())
    row = by_row(load_task("quiz", settings(tmp_path), 0))[6]
    assert row.input == "test question 1\nA. Paris\nB. Rome\nC. Bonn"
    assert (row.target, row.label, row.choices) == ("B", 1, ["A", "B", "C"])
    assert row.knowledge_prompt == "test question 1"
    assert (row.knowledge_target, row.knowledge_choices) == ("Rome", ["Paris", "Rome", "Bonn"])
    assert row.instruction == "Answer the question with the letter of the right option."


def test_equal_options_keep_the_label_of_the_file(tmp_path):
    rows = [*option_rows(), ("test", "twice", "same", {"choices": ["same", "x", "same"], "label": 2})]
    write_folder_task(tmp_path, "quiz", rows)
    row = by_row(load_task("quiz", settings(tmp_path), 0))[10]
    assert (row.target, row.label) == ("C", 2)


def test_class_names_stay_and_make_the_instruction(tmp_path):
    names = ["World", "Sports", "Business"]
    rows = [
        (split, f"{split} {i}", names[i], {"choices": names, "label": i})
        for split in ("train", "validation", "test")
        for i in range(3)
    ]
    write_folder_task(tmp_path, "topics", rows)
    frame = load_task("topics", settings(tmp_path), 0)
    assert set(frame["instruction"]) == {"Classify the input as World, Sports or Business."}
    assert all(choices == names for choices in frame["choices"])
    assert set(frame["target"]) == set(names)
    assert frame["knowledge_prompt"].isna().all()


def test_words_of_the_input_stay_the_choices(tmp_path):
    lists = [["bee", "run"], ["sit", "cow"], ["elk", "go"]]
    rows = [
        (split, ", ".join(words) + f" ({split})", words[0], {"choices": words})
        for split in ("train", "validation", "test")
        for words in lists
    ]
    write_folder_task(tmp_path, "animal_v_verb_2", rows)
    frame = load_task("animal_v_verb_2", settings(tmp_path), 0)
    assert set(frame["instruction"]) == {"Choose the word that names an animal."}
    row = by_row(frame)[2]
    assert (row.input, row.target, row.choices) == ("sit, cow (train)", "sit", ["sit", "cow"])


@pytest.mark.parametrize("column", ["instruction", "definition", "task_description"])
def test_instruction_of_the_file_is_used_row_by_row(tmp_path, column):
    rows = [(s, x, y, {column: f"Do {x}."}) for s, x, y, _ in free_rows()]
    write_folder_task(tmp_path, "antonym", rows)
    frame = load_task("antonym", settings(tmp_path), 0)
    assert list(frame["instruction"]) == [f"Do {text}." for text in frame["input"]]


def test_empty_instruction_of_the_file_stays_empty(tmp_path):
    write_folder_task(tmp_path, "antonym", free_rows(instruction=""))
    assert set(load_task("antonym", settings(tmp_path), 0)["instruction"]) == {""}


@pytest.mark.parametrize(
    ("name", "form", "choices", "expected"),
    [
        ("alphabetically_last_5", "in_input", (), "Choose the word that comes last in the alphabet."),
        ("choose_middle_of_3", "in_input", (), "Choose the middle word of the list."),
        ("plant_v_animal_3", "in_input", (), "Choose the right item of the list."),
        ("present-past", "open", (), "Write the verb in the simple past tense."),
        ("something", "open", (), "Write the right output for the input."),
        ("something", "classes", ("(A)", "(B)"), "Answer the question with the letter of the right option."),
    ],
)
def test_default_instructions(name, form, choices, expected):
    assert default_instruction(name, form, choices) == expected


def test_instructions_are_completed_only_where_something_lacks():
    names = ("good", "bad")
    assert (
        complete_instruction("Choose an option.", "classes", names) == "Choose an option. Options: good, bad."
    )
    assert (
        complete_instruction("Choose the option good or bad.", "classes", names)
        == "Choose the option good or bad."
    )
    assert complete_instruction("", "classes", names) == ""
    assert complete_instruction("Think.", "options") == "Think. Answer with the letter of the right option."
    assert complete_instruction("", "options") == ""


def test_reasoned_answers_are_cut_to_choice_or_final_answer(tmp_path, caplog):
    rows = [(s, x, "B\nbecause of it", {"choices": ["A", "B"], "label": 1}) for s, x, *_ in free_rows()]
    write_folder_task(tmp_path, "reasons", rows)
    assert set(load_task("reasons", settings(tmp_path), 0)["target"]) == {"B"}
    rows = [(s, x, "3 + 4\nis 7", {"final_answer": "7"}) for s, x, *_ in free_rows()]
    write_folder_task(tmp_path, "sums", rows)
    assert set(load_task("sums", settings(tmp_path), 0)["target"]) == {"7"}
    assert caplog.text.count("22 answers are cut to the final answer") == 2


def test_answers_of_several_lines_stay_and_are_reported(tmp_path, caplog):
    write_folder_task(tmp_path, "texts", [(s, x, "one\ntwo", {}) for s, x, *_ in free_rows()])
    assert set(load_task("texts", settings(tmp_path), 0)["target"]) == {"one\ntwo"}
    assert "22 targets have several lines" in caplog.text


def test_rows_without_two_choices_are_dropped_and_counted(tmp_path, caplog):
    rows = [*option_rows(), ("test", "bare", "x", {}), ("test", "single", "x", {"choices": ["x"]})]
    write_folder_task(tmp_path, "quiz", rows)
    assert len(load_task("quiz", settings(tmp_path), 0)) == 9
    assert "2 rows are dropped: they have no two choices" in caplog.text


def test_inputs_shared_between_splits_are_dropped_and_counted(tmp_path, caplog):
    rows = free_rows()
    rows += [
        ("train", "t", "z", {}),
        ("train", "v", "z", {}),
        ("validation", "t", "z", {}),
        ("validation", "w", "z", {}),
    ]
    write_folder_task(tmp_path, "letters", rows)
    frame = load_task("letters", settings(tmp_path), 0)
    assert frame.groupby("input")["split"].nunique().max() == 1
    assert frame["split"].value_counts().to_dict() == {"train": 20, "validation": 2, "test": 1}
    assert "2 rows of train are dropped: their input is also in test or validation" in caplog.text
    assert "1 rows of validation are dropped: their input is also in test" in caplog.text


def test_rows_of_another_test_set_are_not_trained_on(tmp_path, caplog):
    rows = [(s, x, y, {"in_heldout_test": x in ("train 3", "t")}) for s, x, y, _ in free_rows()]
    write_folder_task(tmp_path, "letters", rows)
    frame = load_task("letters", settings(tmp_path), 0)
    assert "train 3" not in set(frame["input"])
    assert "t" in set(frame["input"])
    assert "1 rows are dropped: they are outside test but marked in_heldout_test" in caplog.text


def test_a_file_with_nothing_but_rows_of_another_test_set_is_refused(tmp_path):
    rows = [("train", f"q {i}", "a", {"in_heldout_test": True}) for i in range(5)]
    write_folder_task(tmp_path, "letters", rows)
    with pytest.raises(UserError, match="every row is marked in_heldout_test, so none is left"):
        load_task("letters", settings(tmp_path), 0)


def test_braces_in_the_name_of_a_benchmark_are_refused(tmp_path):
    write_folder_task(tmp_path, "bench{x}/letters", free_rows())
    with pytest.raises(
        UserError, match=r"bench{x}/letters\.parquet has braces, which mark wildcards; rename"
    ):
        load_task("letters", settings(tmp_path), 0)


def test_two_columns_of_one_name_are_refused(tmp_path):
    text = pa.array(["train", "test"])
    table = pa.Table.from_arrays([text] * 4, ["split", "input", "target", "input"])
    pq.write_table(table, tmp_path / "letters.parquet")
    with pytest.raises(UserError, match=r"letters\.parquet: the column 'input' stands twice"):
        load_task("letters", settings(tmp_path), 0)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"choices": ["x", "y"], "label": 2},
            "row 23, column 'label': 2 is out of range; allowed are 0 to 1",
        ),
        ({"choices": ["x", "y"], "label": 1}, "column 'label': 1 means 'y' but the target is 'x'"),
        ({"choices": ["x", "y"], "label": 0.5}, "column 'label': 0.5 is not an integer"),
        ({"choices": ["y", "z"], "label": 0}, "column 'target': 'x' is not among the choices"),
        ({"choices": ["x", *map(str, range(26))]}, "27 options, more than there are letters"),
    ],
)
def test_faults_in_a_benchmark_row(tmp_path, extra, message):
    rows = [(s, x, "a", {"choices": ["a", "b", f"c of {x}"]}) for s, x, *_ in free_rows()]
    write_folder_task(tmp_path, "quiz", [*rows, ("test", "q", "x", extra)])
    with pytest.raises(UserError, match=message):
        load_task("quiz", settings(tmp_path), 0)


def test_benchmark_file_needs_split_and_test_rows(tmp_path):
    pd.DataFrame({"input": ["a"], "target": ["b"]}).to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(UserError, match=r"bare\.parquet: column split missing"):
        load_task("bare", settings(tmp_path), 0)
    write_folder_task(tmp_path, "letters", [row for row in free_rows() if row[0] != "test"])
    with pytest.raises(UserError, match=r"no row of split 'test' \(there: train, validation\)"):
        load_task("letters", settings(tmp_path), 0)
