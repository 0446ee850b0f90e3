"""Task files as people have them: encodings, separators, long cells, line ends, odd columns and values."""

from __future__ import annotations

import csv
import gzip
import json

import pandas as pd
import pytest
from task_files import (
    ANIMALS,
    animal_rows,
    by_row,
    free_rows,
    load_user,
    option_rows,
    settings,
    write_folder_task,
)

from anamnesis.core.errors import UserError
from anamnesis.data.files import read_rows
from anamnesis.data.places import find_task
from anamnesis.data.preparation import prepare
from anamnesis.data.prompts import Template
from anamnesis.data.shortening import shorten_inputs
from tiny_models import tokenizer

ROWS = [
    {"input": "where, then; and | how\tfar", "target": "über 5 €"},
    {"input": 'he said "no",\nthen left', "target": "yes"},
    {"input": "naïve café", "target": "NA"},
    {"input": "日本語, 中文", "target": "😀"},
]


def write(folder, name: str, content: bytes | str):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(rows=ROWS, **options) -> str:
    return pd.DataFrame(rows).to_csv(index=False, **options)


def pairs(path) -> list[dict[str, str]]:
    return [{"input": row.text("input"), "target": row.text("target")} for row in read_rows(path)]


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_every_encoding_of_unicode_is_read(tmp_path, encoding, kind):
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    text = {"csv": table(), "jsonl": "\n".join(lines), "json": f"[{','.join(lines)}]"}[kind]
    assert pairs(write(tmp_path, f"t.{kind}", text.encode(encoding))) == ROWS


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("latin-1", "café au lait", "café au lait"),
        ("cp1252", "it’s 5 €", "it’s 5 €"),
        ("cp1251", "привет", "ïðèâåò"),
        ("shift_jis", "日本", "?"),
    ],
)
def test_other_bytes_are_refused_with_how_they_would_read(tmp_path, encoding, text, shown):
    path = write(tmp_path, "t.csv", f"input,target\n{text},yes\n".encode(encoding))
    with pytest.raises(
        UserError, match=r"t\.csv is not UTF-8 text \(byte 1\d\) but perhaps Windows-1252, in w"
    ) as e:
        read_rows(path)
    assert shown in str(e.value) or shown == "?"
    assert "iconv -f WINDOWS-1252 -t UTF-8" in str(e.value)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xe9\xff", "input,target\na".encode("utf-16")[:-1]]
)
def test_bytes_that_are_no_text_are_called_that(tmp_path, content):
    with pytest.raises(
        UserError, match=r"but no text \(a spreadsheet or an archive\?\); save the table as CSV"
    ):
        read_rows(write(tmp_path, "t.csv", content))


def test_a_file_cut_within_a_character_is_called_that(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv is not UTF-8 text \(byte 14\) but ends within a character"):
        read_rows(write(tmp_path, "t.csv", "input,target\na\u00e9".encode()[:-1]))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_a_pointer_of_git_lfs_is_called_that(tmp_path, kind):
    path = write(tmp_path, f"t.{kind}", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        UserError, match=rf"t\.{kind} is a pointer of Git LFS, not the file: run 'git lfs pull'"
    ):
        read_rows(path)


def test_a_list_of_json_in_a_table_is_told_how_to_write_it(tmp_path):
    text = 'input,target,choices\na,x,"[""x"", ""y""]"\n'
    with pytest.raises(
        UserError, match=r"column 'choices': .* two or more texts, .* in a CSV file they stand"
    ):
        load_user(write(tmp_path, "t.csv", text))


@pytest.mark.parametrize("name", ["t.csv.gz", "T.CSV.GZ", "t.jsonl.gz", "t.csv"])
def test_compressed_files_are_read(tmp_path, name):
    text = "\n".join(map(json.dumps, ROWS)) if "jsonl" in name else table()
    assert pairs(write(tmp_path, name, gzip.compress(text.encode()))) == ROWS
    with pytest.raises(UserError, match=r"cannot be read \(.*\); check its permissions, or get it again"):
        read_rows(write(tmp_path, name, gzip.compress(text.encode())[:-20]))


@pytest.mark.parametrize("name", ["t.CSV", "t.Jsonl", "t.JSON", "t.TSV", "t.Parquet", "t.PARQUET"])
def test_endings_in_capitals(tmp_path, name):
    if name.lower().endswith("parquet"):
        pd.DataFrame(ROWS).to_parquet(tmp_path / name)
    elif "J" in name:
        write(tmp_path, name, "\n".join(map(json.dumps, ROWS)))
    else:
        write(tmp_path, name, table(sep="\t" if "TSV" in name else ","))
    assert pairs(tmp_path / name) == ROWS


# ---------------------------------------------------------------- CSV


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path, separator, ends):
    text = table(sep=separator, lineterminator="\n").replace("\n", ends)
    assert pairs(write(tmp_path, "t.csv", f"{text}{ends}{ends}  {ends}")) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "input;target\nno, it is not;no\nyes, it is;yes\n",
        "input\ttarget\nno, it is; not\tno\nyes, it is\tyes\n",
        '"input";"target";"a note, on it, and, more"\nno, it is not;no;\nyes, it is;yes;\n',
        "sep=;\ninput;target\nno, it is not;no\nyes, it is;yes\n",
        "sep=^\r\ninput^target\r\nno, it is; not^no\r\nyes, it is^yes\r\n",
        "\n\ninput;target\nno, it is;no\nyes;yes\n",
        "input,target,,\nno;no,no,,\nyes;it is,yes,,\n,,,\n",
        ",input,target\n0,no;it is not,no\n1,yes;it is,yes\n",
    ],
)
def test_the_header_says_the_separator(tmp_path, text):
    first, second = pairs(write(tmp_path, "t.csv", text))
    assert (first["target"], second["target"]) == ("no", "yes")
    assert first["input"].startswith("no")
    assert second["input"].startswith("yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question;answer\na, b;c\n", r"columns input, target missing \(the file has question, answer\)"),
        (
            "input;target\na;b;c\n",
            r"row 1: 3 cells under 2 columns \(separator ';', from the header\); quote",
        ),
        ("input\ttarget\na\n", r"row 1: 1 cells under 2 columns \(separator tab, from the header\)"),
        ("input,target\na;b\n", r"row 1: 1 cells under 2 columns \(separator ',', from the header\)"),
        ('input,target\n"he said \\"no\\" to it",b\n', r"not valid CSV \(.*, separator ','\); quote cells"),
        ("input, input ,target\na,b,c\n", r"t\.csv: the column 'input' stands twice; rename or remove one"),
        ("a" * 200_000 + "\nb\n", r"columns input, target missing \(the file has a{57}\.\.\.\)"),
    ],
)
def test_a_table_that_does_not_fit_its_separator(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_user(write(tmp_path, "t.csv", text))


@pytest.mark.parametrize("length", [131_072, 131_073, 2_000_000])
def test_long_cells_are_read_whole(tmp_path, length):
    long = ("word " * length)[: length - 1] + "."
    rows = [*animal_rows(), {"input": long, "target": "long"}]
    for name in ("t.csv", "t.jsonl"):
        text = table(rows) if name == "t.csv" else "\n".join(map(json.dumps, rows))
        assert pairs(write(tmp_path, name, text)) == rows
    frame = load_user(tmp_path / "t.csv")
    assert by_row(frame)[11].input == long
    short, cut = shorten_inputs(frame, tokenizer(), Template("Input:", "Output:", "\n\n"), 60)
    kept = by_row(short)[11].input
    assert long.endswith(kept)
    assert 0 < len(kept) < 300
    assert cut.sum() == 1


def test_line_breaks_inside_cells_are_those_of_unix(tmp_path):
    rows = [{"input": "two\r\nlines", "target": "a\rb"}]
    for name, text in (("t.csv", table(rows, quoting=csv.QUOTE_ALL)), ("t.json", json.dumps(rows))):
        assert pairs(write(tmp_path, name, text)) == [{"input": "two\nlines", "target": "a\nb"}]


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_and_lines_are_told_apart_by_content(tmp_path, name, indent):
    assert pairs(write(tmp_path, name, "\n " + json.dumps(ROWS, indent=indent) + "\n")) == ROWS
    assert pairs(write(tmp_path, name, "\r\n".join(map(json.dumps, ROWS)) + "\r\n\r\n")) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"input": "a", "input": "b", "target": "c"}', r"t\.json, line 1: the column 'input' stands twice"),
        ('[{"input": "a", "target": "c", "target": "c"}]', r"t\.json: the column 'target' stands twice"),
        ('[{"input": "a"}, null]', r"t\.json, row 2: None is not a JSON object"),
        ('"text"\n', r"t\.json, line 1: 'text' is not a JSON object"),
        (
            '{\n "input": "a"\n}',
            r"t\.json, line 1: not valid JSON .*; write a list of objects, or one per line",
        ),
        ("[]", r"t\.json has no rows"),
    ],
)
def test_json_that_is_no_table(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_rows(write(tmp_path, "t.json", text))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, r"7 is not a text; store"),
        (7.5, r"7\.5 is not a text"),
        (True, r"True is not a text"),
        (["a"], r"\['a'\] is not a text"),
        ({"text": "a"}, r"\{'text': 'a'\} is not a text"),
        (None, "is empty"),
        ("", "is empty"),
        (" \t\r\n", "is empty"),
        ("\u00a0\u3000", "is empty"),
        ("\u200b\ufeff\u2060", "is empty"),
    ],
)
@pytest.mark.parametrize("column", ["input", "target"])
def test_a_value_that_is_no_text_is_named(tmp_path, column, value, message):
    rows = [*animal_rows(), {"input": "a", "target": "b", column: value}]
    with pytest.raises(UserError, match=rf"t\.jsonl, row 11, column '{column}': {message}"):
        load_user(write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows))))


def test_signs_that_join_others_are_kept(tmp_path):
    family = "👨\u200d👩\u200d👧"
    rows = [*animal_rows(), {"input": family, "target": "می\u200cخواهم"}]
    frame = load_user(write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows))))
    assert (by_row(frame)[11].input, by_row(frame)[11].target) == (family, "می\u200cخواهم")


# ---------------------------------------------------------------- parquet


def test_parquet_of_every_kind_of_text(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    column = [row["input"] for row in ROWS]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        arrays = {"input": pa.array(column).cast(kind), "target": pa.array([r["target"] for r in ROWS])}
        pa.parquet.write_table(pa.table(arrays), tmp_path / "t.parquet")
        assert pairs(tmp_path / "t.parquet") == ROWS


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([1, 2, 3], r"row 1, column 'target': 1 is not a text"),
        ([1.5, 2.5, 3.5], r"row 1, column 'target': 1\.5 is not a text"),
        ([True, False, True], r"row 1, column 'target': True is not a text"),
        ([b"a", b"b", b"c"], r"row 1, column 'target': b'a' is not a text"),
        (pd.to_datetime(["2020-01-01"] * 3), r"row 1, column 'target': .*2020.* is not a text"),
        (["a", float("nan"), "c"], r"row 2, column 'target': is empty"),
        (["a", None, "c"], r"row 2, column 'target': is empty"),
    ],
)
def test_parquet_with_other_columns(tmp_path, target, message):
    pd.DataFrame({"input": ["x", "y", "z"], "target": target}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=message):
        load_user(tmp_path / "t.parquet")


def test_parquet_with_a_column_twice_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pa.parquet.write_table(
        pa.Table.from_arrays(columns, ["input", "target", "target"]), tmp_path / "t.parquet"
    )
    with pytest.raises(UserError, match=r"t\.parquet: the column 'target' stands twice"):
        read_rows(tmp_path / "t.parquet")


def test_names_of_folders_make_no_columns(tmp_path):
    folder = tmp_path / "split=train"
    folder.mkdir()
    pd.DataFrame(animal_rows()).to_parquet(folder / "t.parquet")
    assert set(read_rows(folder / "t.parquet")[0].values) == {"input", "target"}


def test_the_index_of_a_frame_may_hold_the_inputs(tmp_path):
    pd.DataFrame(animal_rows()).set_index("input").to_parquet(tmp_path / "t.parquet")
    assert [row.text("input") for row in read_rows(tmp_path / "t.parquet")] == ANIMALS


def test_files_of_the_folder_may_end_in_capitals(tmp_path):
    path = write_folder_task(tmp_path, "plural", free_rows())
    path.rename(tmp_path / "plural.Parquet")
    assert find_task("plural", settings(tmp_path)).files == (tmp_path / "plural.Parquet",)


# ---------------------------------------------------------------- rows


def prepared(folder, rows):
    entry = {"path": str(write(folder, "t.jsonl", "\n".join(map(json.dumps, rows)))), "instruction": "Do it."}
    return prepare("mine", settings(tasks={"mine": entry}), 0)


def test_what_stands_out_is_counted_and_said(tmp_path, caplog):
    rows = [{"input": f"x{i}", "target": "no", "split": s} for i, s in enumerate(["train", "test"] * 20)]
    rows += [rows[0], rows[0], {"input": "x2", "target": "yes", "split": "train"}]
    made = prepared(tmp_path, rows)
    assert made.noted == {
        "rows repeat another row of their split": 2,
        "inputs have several targets": 1,
        "of 21 rows of train have the target 'no'": 20,
        "of 20 rows of test have the target 'no'": 20,
    }
    assert "t.jsonl: 2 rows repeat another row of their split" in caplog.text
    assert "1 inputs have several targets (the first: 'x2' has 'no' in row 3, 'yes' in row 43)" in caplog.text
    assert "20 of 21 rows of train have the target 'no'" in caplog.text
    assert len(made.frame) == 43


def test_a_file_without_such_rows_says_nothing(tmp_path, caplog):
    rows = [{"input": f"x{i}", "target": "no" if i % 2 else "yes"} for i in range(60)]
    assert prepared(tmp_path, rows).noted == {}
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_rows_that_differ_in_white_space_around_them_alone_are_the_same(tmp_path):
    rows = [{"input": f"x{i}\nz", "target": str(i)} for i in range(30)]
    same = [{"input": " x3\nz\t", "target": "3"}, {"input": "x4\nz\r\n", "target": "four"}]
    assert prepared(tmp_path, [*rows, *same]).noted == {
        "rows repeat another row of their split": 1,
        "inputs have several targets": 1,
    }


@pytest.mark.parametrize("column", ["choices", "knowledge_choices"])
def test_a_choice_that_stands_twice_is_refused(tmp_path, column):
    extra = {"choices": ["a", "b", "c"], "knowledge_prompt": "p", column: ["a", "b", " a"]}
    rows = [*animal_rows(choices=[a.upper() for a in ANIMALS]), {"input": "q", "target": "a", **extra}]
    with pytest.raises(
        UserError, match=rf"row 11, column '{column}': 'a' stands there 2 times; list it once"
    ):
        prepared(tmp_path, rows)


def test_choices_that_stand_twice_in_a_published_set_are_counted(tmp_path):
    twice = ("test", "which?", "red", {"choices": ["red", "blue", "red"], "label": 0})
    write_folder_task(tmp_path, "some_set", [*option_rows(), twice])
    assert prepare("some_set", settings(tmp_path), 0).noted == {"rows list a choice twice": 1}
