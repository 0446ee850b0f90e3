"""Where a task comes from, how it is sampled, and the job that writes it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import yaml
from task_files import (
    ANIMALS,
    REPOSITORY,
    animal_rows,
    by_row,
    free_rows,
    load_user,
    option_rows,
    settings,
    write_csv,
    write_folder_task,
    write_jsonl,
)

from anamnesis.config import load_config
from anamnesis.core.artifacts import read_parquet
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.data.places import find_task, find_task_files
from anamnesis.data.preparation import load_task

# ---------------------------------------------------------------- where a task comes from


def test_user_task_then_folder_file_then_builtin(tmp_path):
    write_folder_task(tmp_path, "bench/antonym", free_rows())
    entry = {"antonym": {"path": "own.csv", "instruction": "Do it."}}
    assert find_task("antonym", settings(tmp_path, entry)).kind == "user"
    found = find_task("antonym", settings(tmp_path))
    assert (found.kind, found.files) == ("folder", (tmp_path / "bench" / "antonym.parquet",))
    assert find_task("antonym", settings()).kind == "built-in"
    assert find_task("plural", settings(tmp_path)).kind == "built-in"


def test_builtin_task_is_passed_on_unchanged():
    sizes = {"train": 7, "validation": 5, "test": 3}
    frame = load_task("plural", settings(train=7, validation=5, test=3), 4)
    pd.testing.assert_frame_equal(frame, builtin_task("plural", 4, sizes))


@pytest.mark.parametrize("places", [("one/letters", "two/letters"), ("letters", "two/letters")])
def test_two_files_of_one_task_are_refused_alike_by_configuration_and_job(tmp_path, places):
    first, second = (write_folder_task(tmp_path, place, free_rows()) for place in places)
    suite = {"name": "own", "orders": [["letters"]], "held_out": ["antonym"]}
    content = {"suite": suite, "interventions": {"sets": []}, "data": {"root": str(tmp_path)}}
    for ask in (
        lambda: find_task("letters", settings(tmp_path)),
        lambda: load_config(content),
        lambda: load_config(content, ["letters", "antonym"]),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == (
            f"data.root = '{tmp_path}': task 'letters' has two files, {first} and {second}; rename or remove "
            "one, or set data.root to one of the folders"
        )
    second.unlink()
    assert find_task("letters", settings(tmp_path)).files == (first,)
    assert load_config(content).suite.orders == (("letters",),)


def test_task_files_lie_in_the_root_or_one_folder_down_and_are_not_hidden(tmp_path):
    for place in ("one", "bench/two", "a/b/three", ".cache/four", "bench/.five"):
        write_folder_task(tmp_path, place, free_rows())
    assert find_task_files(str(tmp_path)) == {
        "one": tmp_path / "one.parquet",
        "two": tmp_path / "bench" / "two.parquet",
    }


def test_unknown_task_names_the_nearest_of_all_sources(tmp_path):
    write_folder_task(tmp_path, "bench/hellaswag", free_rows())
    config = settings(tmp_path, {"rhymes": {"path": "r.csv", "instruction": "Rhyme."}})
    for wrong, right in (("helaswag", "hellaswag"), ("rhime", "rhymes"), ("antonim", "antonym")):
        with pytest.raises(UserError, match=f"unknown task '{wrong}': did you mean '{right}'"):
            find_task(wrong, config)


def test_missing_root_is_named():
    with pytest.raises(UserError, match=r"data\.root = '/no/such': must be an existing directory"):
        find_task("anything", settings("/no/such"))


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


def test_a_task_of_its_own_size_begins_the_larger_one_and_others_stay(tmp_path):
    for name in ("numbers", "letters"):
        write_folder_task(tmp_path, name, free_rows())
    all_alike = settings(tmp_path, train=12)
    own = all_alike | {"task_examples": {"numbers": 7}}
    fewer, larger = (load_task("numbers", section, 3) for section in (own, all_alike))
    assert (fewer.split == "train").sum() == 7
    assert list(fewer.input[fewer.split == "train"]) == list(larger.input[larger.split == "train"])[:7]
    assert list(fewer.input[fewer.split != "train"]) == list(larger.input[larger.split != "train"])
    pd.testing.assert_frame_equal(*(load_task("letters", section, 3) for section in (own, all_alike)))
    more = load_task("numbers", all_alike | {"task_examples": {"numbers": 15}}, 3)
    assert (more.split == "train").sum() == 15


def test_example_id_gives_the_row_of_the_file(tmp_path):
    frame = load_user(write_jsonl(tmp_path, animal_rows()))
    for row in frame.itertuples():
        split, number = row.example_id.split("-")
        assert (split, ANIMALS[int(number) - 1]) == (row.split, row.input)


def test_job_writes_the_table_and_says_where_it_is_from(tmp_path):
    main = runpy.run_path(str(REPOSITORY / "workflow" / "scripts" / "prepare_task.py"))["main"]
    write_folder_task(tmp_path / "root", "bench/quiz", option_rows())
    config = settings(tmp_path / "root", test=2)
    output = tmp_path / "out" / "quiz.parquet"
    facts = main(name="quiz", data=config, seed=0, output=str(output))
    written, expected = read_parquet(output), load_task("quiz", config, 0)
    assert written["example_id"].tolist() == expected["example_id"].tolist()
    assert [list(choices) for choices in written["choices"]] == expected["choices"].tolist()
    assert (facts["task"], facts["source"]) == ("quiz", "folder")
    assert facts["examples"] == {"train": 3, "validation": 3, "test": 2}
    assert len(facts["data_sha256"]) == 64


def test_job_writes_nothing_for_a_bad_file(tmp_path):
    main = runpy.run_path(str(REPOSITORY / "workflow" / "scripts" / "prepare_task.py"))["main"]
    path = write_csv(tmp_path, "input,target\na,\n")
    config = settings(tasks={"mine": {"path": str(path), "instruction": "Do it."}})
    out = tmp_path / "out"
    with pytest.raises(UserError, match="row 1, column 'target'"):
        main(name="mine", data=config, seed=0, output=str(out / "m.parquet"))
    assert not out.exists()


def test_examples_of_the_documentation_work(tmp_path, monkeypatch):
    blocks = dict(
        re.findall(
            r"```(csv|yaml|jsonl)\n(.*?)```",
            (REPOSITORY / "docs" / "how-to" / "own-task.md").read_text(),
            re.S,
        )
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
