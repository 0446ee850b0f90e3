"""Tasks from a user's file, from a folder of benchmarks and built in: one uniform frame, and clear errors."""

from __future__ import annotations

import json
import logging
import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import yaml

from anamnesis.artifacts import read_json, read_parquet
from anamnesis.data.builtin import COLUMNS, builtin_task
from anamnesis.data.files import read_rows
from anamnesis.data.instructions import complete_instruction, default_instruction
from anamnesis.data.sources import find_task, load_task
from anamnesis.errors import UserError

REPOSITORY = Path(__file__).parents[2]
ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]


def settings(root=None, tasks=None, train=200, validation=100, test=60):
    sizes = {"train_examples": train, "validation_examples": validation, "test_examples": test}
    return {"root": None if root is None else str(root), "tasks": tasks or {}, **sizes}


def write_folder_task(root, name, rows):
    """A benchmark file of (split, input, target, extra columns) rows."""
    path = root / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = {"choices": None, "label": None}
    cells = [blank | {"split": s, "input": x, "target": y} | extra for s, x, y, extra in rows]
    pd.DataFrame(cells).to_parquet(path, index=False)
    return path


def free_rows(**extra):
    rows = [("train", f"train {i}", f"answer {i}", extra) for i in range(20)]
    return [*rows, ("validation", "v", "answer", extra), ("test", "t", "answer", extra)]


def load_user(path, instruction="Do it.", seed=0, sizes=None, **keys):
    entry = {"path": str(path), "instruction": instruction, **keys}
    return load_task("mine", settings(tasks={"mine": entry}, **(sizes or {})), seed)


def write_csv(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def write_jsonl(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def animal_rows(**extra):
    return [{"input": animal, "target": animal.upper(), **extra} for animal in ANIMALS]


def by_row(frame):
    """The rows by the number of the row in the file."""
    return {int(row.example_id.split("-")[1]): row for row in frame.itertuples()}


# ---------------------------------------------------------------- where a task comes from


def test_user_task_then_folder_file_then_builtin(tmp_path):
    write_folder_task(tmp_path, "bench/antonym", free_rows())
    entry = {"antonym": {"path": "own.csv", "instruction": "Do it."}}
    assert find_task("antonym", settings(tmp_path, entry)).kind == "user"
    found = find_task("antonym", settings(tmp_path))
    assert (found.kind, found.path) == ("folder", tmp_path / "bench" / "antonym.parquet")
    assert find_task("antonym", settings()).kind == "built-in"
    assert find_task("plural", settings(tmp_path)).kind == "built-in"


def test_builtin_task_is_passed_on_unchanged():
    sizes = {"train": 7, "validation": 5, "test": 3}
    frame = load_task("plural", settings(train=7, validation=5, test=3), 4)
    pd.testing.assert_frame_equal(frame, builtin_task("plural", 4, sizes))


def test_task_named_with_its_folder_gives_the_same_rows(tmp_path):
    write_folder_task(tmp_path, "bench/letters", free_rows())
    config = settings(tmp_path, train=5)
    pd.testing.assert_frame_equal(load_task("bench/letters", config, 0), load_task("letters", config, 0))


def test_ambiguous_name_is_refused_with_both_places(tmp_path):
    write_folder_task(tmp_path, "one/letters", free_rows())
    write_folder_task(tmp_path, "two/letters", free_rows())
    with pytest.raises(UserError, match=r"'letters' is ambiguous.*one/letters and two/letters"):
        find_task("letters", settings(tmp_path))
    assert find_task("two/letters", settings(tmp_path)).path == tmp_path / "two" / "letters.parquet"
    write_folder_task(tmp_path, "letters", free_rows())
    assert find_task("letters", settings(tmp_path)).path == tmp_path / "letters.parquet"


def test_unknown_task_names_the_nearest_of_all_sources(tmp_path):
    write_folder_task(tmp_path, "bench/hellaswag", free_rows())
    config = settings(tmp_path, {"rhymes": {"path": "r.csv", "instruction": "Rhyme."}})
    for wrong, right in (("helaswag", "hellaswag"), ("rhime", "rhymes"), ("antonim", "antonym")):
        with pytest.raises(UserError, match=f"unknown task '{wrong}': did you mean '{right}'"):
            find_task(wrong, config)


def test_missing_root_is_named():
    with pytest.raises(UserError, match=r"data\.root = '/no/such' is not a directory"):
        find_task("anything", settings("/no/such"))


# ---------------------------------------------------------------- a user's own file


def test_every_file_type_gives_the_same_frame(tmp_path):
    rows = animal_rows()
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    frames = [load_user(tmp_path / f"t.{kind}") for kind in ("parquet", "csv", "json", "jsonl")]
    assert list(frames[0].columns) == list(COLUMNS)
    assert set(frames[0]["instruction"]) == {"Do it."}
    assert dict(zip(frames[0]["input"], frames[0]["target"], strict=True)) == {a: a.upper() for a in ANIMALS}
    for other in frames[1:]:
        pd.testing.assert_frame_equal(other, frames[0])


def test_division_is_70_10_20_and_keeps_equal_inputs_together(tmp_path):
    rows = [{"input": f"word {i % 100}", "target": str(i)} for i in range(200)]
    frame = load_user(write_jsonl(tmp_path, rows))
    assert frame["split"].value_counts().to_dict() == {"train": 140, "test": 40, "validation": 20}
    assert frame.groupby("input")["split"].nunique().max() == 1
    reversed_frame = load_user(write_jsonl(tmp_path, rows[::-1]), seed=5)
    splits = dict(zip(frame["input"], frame["split"], strict=True))
    assert dict(zip(reversed_frame["input"], reversed_frame["split"], strict=True)) == splits


def test_three_inputs_make_three_splits_and_two_are_refused(tmp_path):
    frame = load_user(write_csv(tmp_path, "input,target\na,1\nb,2\nc,3\n"))
    assert sorted(frame["split"]) == ["test", "train", "validation"]
    with pytest.raises(UserError, match="2 different inputs cannot be divided"):
        load_user(write_csv(tmp_path, "input,target\na,1\nb,2\nb,3\n"))


def test_csv_keeps_words_that_look_like_gaps_and_quoted_commas(tmp_path):
    path = write_csv(tmp_path, '\ufeffinput,target\nNA,null\n"a, b",nan\nc,007\n')
    frame = load_user(path)
    assert dict(zip(frame["input"], frame["target"], strict=True)) == {
        "NA": "null",
        "a, b": "nan",
        "c": "007",
    }


def test_choices_in_csv_are_split_and_labels_derived(tmp_path):
    path = write_csv(tmp_path, "input,target,choices\na,no,yes|no\nb,yes,yes | no\nc,yes,yes|no\n")
    rows = by_row(load_user(path))
    assert rows[1].choices == rows[2].choices == ["yes", "no"]
    assert (rows[1].label, rows[2].label) == (1, 0)


def test_own_option_texts_stay_as_they_are(tmp_path):
    path = write_csv(tmp_path, "input,target,choices\nq1,x,x|y\nq2,z,z|w\nq3,u,u|v\n")
    row = by_row(load_user(path))[2]
    assert (row.input, row.target, row.choices, row.knowledge_prompt) == ("q2", "z", ["z", "w"], None)


def test_split_column_decides_and_validation_is_carved_from_train(tmp_path, caplog):
    rows = [{"input": f"x{i}", "target": "y", "split": "test" if i < 5 else "train"} for i in range(45)]
    with caplog.at_level(logging.INFO):
        frame = load_user(write_jsonl(tmp_path, rows))
    assert frame["split"].value_counts().to_dict() == {"train": 36, "test": 5, "validation": 4}
    assert set(frame.loc[frame["split"] == "test", "input"]) == {f"x{i}" for i in range(5)}
    assert "no validation rows: 4 of train are set apart for it, 36 stay" in caplog.text


def test_knowledge_columns_pass_through(tmp_path):
    extra = {"choices": ["ANT", "BEE"], "knowledge_prompt": "It is a", "knowledge_choices": ["small", "big"]}
    rows = [{"input": f"x{i}", "target": "BEE", **extra} for i in range(3)]
    row = load_user(write_jsonl(tmp_path, rows)).iloc[0]
    assert (row["knowledge_prompt"], row["knowledge_target"]) == ("It is a", "big")
    assert row["knowledge_choices"] == ["small", "big"]


def test_knowledge_template_of_the_configuration(tmp_path):
    frame = load_user(write_jsonl(tmp_path, animal_rows()), knowledge="In capitals, {input} is")
    row = frame[frame["input"] == "bee"].iloc[0]
    assert row["knowledge_prompt"] == "In capitals, bee is"
    assert row["knowledge_target"] == "BEE"
    assert row["knowledge_choices"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs,target\na,b\n", r"mine\.csv: column input missing \(the file has inputs, target\)"),
        ("question,answer\na,b\n", r"columns input, target missing"),
        ("input,target\na,b\nc,\n", r"mine\.csv, row 2, column 'target': is empty; "),
        ("input,target\n  ,b\n", r"row 1, column 'input': is empty; "),
        ("input,target,choices\na,x,y|z\n", r"row 1, column 'target': 'x' is not among the choices \(y, z\)"),
        ("input,target,choices\na,x,x\n", r"column 'choices': \['x'\] must hold two or more"),
        ("input,target,choices\na,x,x|y\nb,x,\n", r"row 2, column 'choices': is empty but not in all rows"),
        ("input,target,split\na,b,tset\n", r"column 'split': unknown split 'tset': did you mean 'test'"),
        ("input,target,split\na,b,train\n", r"no row of split 'test' \(there: train\)"),
        ("input,target,split\na,b,test\n", r"no row of split 'train' \(there: test\)"),
        ("input,target,split\na,b,test\na,b,train\n", r"no rows left in train"),
        ("input,target,split\na,b,test\nc,b,train\n", r"no rows left for validation"),
        ("input,target\na,b,c\n", r"row 1: 3 cells under 2 columns; quote"),
        ("input,input\na,b\n", r"a column stands twice"),
        ('input,target\na,"b\n', r"is not valid CSV"),
        ("input,target\n", r"mine\.csv has no rows"),
        ("", r"mine\.csv has no rows"),
    ],
)
def test_faults_in_a_csv_file(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_user(write_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": 7}, r"row 11, column 'target': 7 is not a text; store"),
        ({"target": None}, r"row 11, column 'target': is empty"),
        ({"choices": "a|b"}, r"row 11, column 'choices': 'a\|b' is not a list of texts"),
        ({"choices": ["x", 3]}, r"column 'choices': \['x', 3\] is not a list of texts"),
        ({"choices": ["x", " "]}, r"column 'choices': \['x', ' '\] must hold two or more texts"),
        ({"knowledge_target": "x"}, r"column 'knowledge_prompt': is empty though"),
        (
            {"choices": ["x", "y"], "knowledge_prompt": "p", "knowledge_choices": ["a", "b", "c"]},
            r"column 'knowledge_choices': holds 3 texts but choices holds 2",
        ),
        (
            {"choices": ["x", "y"], "knowledge_prompt": "p", "knowledge_target": "y"},
            r"column 'knowledge_target': 'y' is not the right choice, 'x'",
        ),
    ],
)
def test_faults_in_a_jsonl_row(tmp_path, row, message):
    path = write_jsonl(tmp_path, [*animal_rows(), {"input": "q", "target": "x", **row}])
    with pytest.raises(UserError, match=message) as caught:
        load_user(path)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv does not exist"):
        load_user(tmp_path / "gone.csv")
    faults = {
        "t.xlsx": (b"", r"'\.xlsx' is no type of task file; use \.parquet, \.jsonl, \.json, \.csv"),
        "latin.csv": ("input,target\né,b\n".encode("latin-1"), r"latin\.csv is not UTF-8 text"),
        "t.jsonl": (b'{"input": "a", "target": "b"}\n{"input": \n', r"t\.jsonl, line 2: not valid JSON"),
        "list.jsonl": (b"[1]\n", r"list\.jsonl, line 1: \[1\] is not a JSON object"),
        "t.json": (b'{"input": "a"}', r"t\.json must hold a list of JSON objects"),
        "cut.json": (b'[{"input": "a"}', r"cut\.json is not valid JSON"),
        "t.parquet": (b"PAR1 nothing", r"t\.parquet is not a readable parquet file .*download it again"),
    }
    for name, (content, message) in faults.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_user(tmp_path / name)


def test_truncated_parquet_is_refused(tmp_path):
    path = write_folder_task(tmp_path, "letters", free_rows())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"letters\.parquet is not a readable parquet file"):
        load_task("letters", settings(tmp_path), 0)


def test_gaps_in_parquet_are_none_and_whole_numbers_integers(tmp_path):
    frame = pd.DataFrame({"text": ["a", None], "label": [1.0, None], "choices": [["x", "y"], None]})
    frame.to_parquet(tmp_path / "t.parquet")
    first, second = (row.values for row in read_rows(tmp_path / "t.parquet"))
    assert first == {"text": "a", "label": 1, "choices": ["x", "y"]}
    assert isinstance(first["label"], int)
    assert second == {"text": None, "label": None, "choices": None}


# ---------------------------------------------------------------- benchmark files


def option_rows():
    options = [["red", "blue", "green"], ["Paris", "Rome", "Bonn"], ["one", "two", "six"]]
    rows = []
    for i, choices in enumerate(options):
        extra = {"choices": choices, "label": i}
        rows += [
            (split, f"{split} question {i}", choices[i], extra) for split in ("train", "validation", "test")
        ]
    return rows


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
        ("numglue_cm", "open", (), ""),
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


# ---------------------------------------------------------------- sizes and files


def test_samples_depend_on_seed_only_and_smaller_ones_begin_larger_ones(tmp_path):
    path = write_jsonl(tmp_path, [{"input": f"x{i}", "target": "y"} for i in range(300)])
    small = load_user(path, sizes={"train": 20, "validation": 9, "test": 8})
    large = load_user(path, sizes={"train": 90, "validation": 9, "test": 50})
    assert small["split"].value_counts().to_dict() == {"train": 20, "validation": 9, "test": 8}
    for split, size in (("train", 20), ("validation", 9), ("test", 8)):
        beginning = large[large["split"] == split].head(size)
        assert list(beginning["example_id"]) == list(small.loc[small["split"] == split, "example_id"])
    pd.testing.assert_frame_equal(small, load_user(path, sizes={"train": 20, "validation": 9, "test": 8}))
    other = load_user(path, seed=1, sizes={"train": 20, "validation": 9, "test": 8})
    assert set(other["example_id"]) != set(small["example_id"])
    assert large["example_id"].is_unique


def test_example_id_gives_the_row_of_the_file(tmp_path):
    frame = load_user(write_jsonl(tmp_path, animal_rows()))
    for row in frame.itertuples():
        split, number = row.example_id.split("-")
        assert (split, ANIMALS[int(number) - 1]) == (row.split, row.input)


def test_job_writes_table_and_record(tmp_path):
    main = runpy.run_path(str(REPOSITORY / "workflow" / "scripts" / "prepare_task.py"))["main"]
    write_folder_task(tmp_path / "root", "bench/quiz", option_rows())
    config = settings(tmp_path / "root", test=2)
    output, record = tmp_path / "out" / "quiz.parquet", tmp_path / "out" / "quiz.json"
    main(name="quiz", data=config, seed=0, output=str(output), record=str(record))
    written, expected = read_parquet(output), load_task("quiz", config, 0)
    assert written["example_id"].tolist() == expected["example_id"].tolist()
    assert [list(choices) for choices in written["choices"]] == expected["choices"].tolist()
    facts = read_json(record)
    assert (facts["task"], facts["source"]) == ("quiz", "folder")
    assert facts["examples"] == {"train": 3, "validation": 3, "test": 2}
    assert len(facts["sha256"]) == 64


def test_job_writes_nothing_for_a_bad_file(tmp_path):
    main = runpy.run_path(str(REPOSITORY / "workflow" / "scripts" / "prepare_task.py"))["main"]
    path = write_csv(tmp_path, "input,target\na,\n")
    config = settings(tasks={"mine": {"path": str(path), "instruction": "Do it."}})
    out = tmp_path / "out"
    with pytest.raises(UserError, match="row 1, column 'target'"):
        main(name="mine", data=config, seed=0, output=str(out / "m.parquet"), record=str(out / "m.json"))
    assert not out.exists()


def test_examples_of_the_documentation_work(tmp_path, monkeypatch):
    blocks = dict(
        re.findall(r"```(csv|yaml|jsonl)\n(.*?)```", (REPOSITORY / "docs" / "tasks.md").read_text(), re.S)
    )
    monkeypatch.chdir(tmp_path)
    tasks = yaml.safe_load(blocks["yaml"])["data"]["tasks"]
    Path("data").mkdir()
    Path(tasks["animal_homes"]["path"]).write_text(blocks["csv"])
    frame = load_task("animal_homes", settings(tasks=tasks), 0)
    assert frame["split"].value_counts().to_dict() == {"train": 7, "test": 2, "validation": 1}
    Path("homes.jsonl").write_text(blocks["jsonl"])
    row = by_row(load_user("homes.jsonl"))[1]
    assert (row.target, row.knowledge_prompt, row.knowledge_target) == ("B", "A bee lives in a", "hive")
