"""A user's own task file: every type of it, the division into splits, and clear errors."""

from __future__ import annotations

import json
import logging

import pandas as pd
import pytest
from task_files import (
    ANIMALS,
    animal_rows,
    by_row,
    free_rows,
    load_user,
    settings,
    write_csv,
    write_folder_task,
    write_jsonl,
)

from anamnesis.core.artifacts import digest_file
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import COLUMNS
from anamnesis.data.files import read_rows
from anamnesis.data.preparation import load_task


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
        (
            "input,target\na,b,c\n",
            r"row 1: 3 cells under 2 columns \(separator ',', from the header\); quote",
        ),
        ("input,input\na,b\n", r"the column 'input' stands twice"),
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
        ({"target": "\ud800"}, r"row 11, column 'target': '\\ud800' holds half a character \(position 0\)"),
        ({"choices": ["x", "\udfff"]}, r"row 11, column 'choices': .* holds half a character"),
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
    with pytest.raises(UserError, match=r"gone\.csv: no such file; give the path"):
        load_user(tmp_path / "gone.csv")
    faults = {
        "t.xlsx": (b"", r"'\.xlsx' is no type of task file; use \.parquet, \.jsonl, \.json, \.csv, \.tsv"),
        "latin.csv": ("input,target\né,b\n".encode("latin-1"), r"latin\.csv is not UTF-8 text"),
        "t.jsonl": (b'{"input": "a", "target": "b"}\n{"input": \n', r"t\.jsonl, line 2: not valid JSON"),
        "list.jsonl": (b"[1]\n", r"list\.jsonl, row 1: 1 is not a JSON object"),
        "t.json": (b'{"data": [{"input": "a"}]}', r"input, target missing \(the file has data\)"),
        "cut.json": (b'[{"input": "a"}', r"cut\.json: not valid JSON"),
        "deep.json": (b"[" * 100_000, r"deep\.json: not valid JSON"),
        "deep.jsonl": (b'{"input": ' + b"[" * 100_000, r"deep\.jsonl, line 1: not valid JSON"),
        "t.parquet": (b"PAR1 nothing", r"t\.parquet is not a readable parquet file .*download it again"),
    }
    for name, (content, message) in faults.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_user(tmp_path / name)


def test_a_file_with_another_digest_is_not_read(tmp_path):
    path = write_jsonl(tmp_path, animal_rows())
    digest = digest_file(path)
    assert len(load_user(path, sha256=digest))
    path.write_text("no JSON")
    with pytest.raises(
        UserError, match=rf"has sha256 \w{{64}} but data.tasks.mine.sha256 is {digest}: it is"
    ):
        load_user(path, sha256=digest)


def test_long_values_are_cut_in_messages(tmp_path):
    rows = [*animal_rows(), {"input": "q", "target": "x" * 10_000, "choices": ["y" * 10_000, "z"]}]
    with pytest.raises(UserError, match="is not among the choices") as caught:
        load_user(write_jsonl(tmp_path, rows))
    assert len(str(caught.value)) < 600


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
