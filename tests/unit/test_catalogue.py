"""The catalogue: names, page and sequences, sets made of several files, and no network without a hub."""

from __future__ import annotations

import re
import socket

import pytest
from task_files import REPOSITORY, free_rows, option_rows, settings, write_folder_task

from anamnesis.config import load_config
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import BUILTIN
from anamnesis.data.catalogue import CATALOGUE, SEQUENCES, look_up
from anamnesis.data.catalogue.evaluation import MMLU_GROUPS
from anamnesis.data.catalogue.table import page_text
from anamnesis.data.places import find_task
from anamnesis.data.sources import load_task, prepare

PAGE = REPOSITORY / "docs" / "data.md"


def test_the_page_is_in_step_with_the_catalogue():
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_text(text), "run: PYTHONPATH=workflow python -m anamnesis.data.catalogue.table"
    assert all(f"`{name}`" in text for name in SEQUENCES)


def test_commits_are_whole():
    commits = [e.hub.revision for e in CATALOGUE.values() if e.hub]
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)


def test_sequences_name_sets_of_the_catalogue_in_all_orders():
    assert [task for tasks in SEQUENCES.values() for task in tasks if look_up(task) is None] == []
    assert len({tuple(sorted(SEQUENCES[f"long-order{k}"])) for k in (4, 5, 6)}) == 1
    for size, orders in ((15, ["long-order4"]), (8, ["trace8-order1", "trace8-order2"]), (6, ["func"])):
        assert all(len(set(SEQUENCES[order])) == size for order in orders)
    assert sorted(SEQUENCES["trace6-order1"]) == sorted(SEQUENCES["trace6-order2"])
    assert sum(len(subjects.split()) for subjects in MMLU_GROUPS.values()) == 57


def test_names_shared_with_built_in_tasks_have_the_same_words():
    same = [name for name in CATALOGUE.keys() & BUILTIN.keys() if CATALOGUE[name].instruction is not None]
    assert same
    assert all(CATALOGUE[name].instruction == BUILTIN[name].instruction for name in same)


def suite(orders, **data):
    held_out = {"name": "own", "orders": orders, "held_out": ["antonym"]}
    return {"suite": held_out, "interventions": {"sets": []}, "data": data}


def test_an_order_may_be_the_name_of_a_sequence():
    config = load_config(suite(["long-order4", "long-order6"], sources=["hub", "builtin"]), SET_NAMES)
    assert [list(order) for order in config.suite.orders] == [
        list(SEQUENCES["long-order4"]),
        list(SEQUENCES["long-order6"]),
    ]
    with pytest.raises(UserError, match=r"suite\.orders\[0\] = 'long-order7'.*did you mean 'long-order"):
        load_config(suite(["long-order7"]))


SET_NAMES = {*CATALOGUE, "antonym"}


def test_names_are_known_where_their_place_is_listed(tmp_path):
    write_folder_task(tmp_path, "ni/task618_reviews", free_rows(definition="Sum up."))
    assert load_config(suite([["task618"]], root=str(tmp_path)))
    assert load_config(suite([["task1355", "yelp"]], sources=["hub", "builtin"]))
    with pytest.raises(UserError, match="unknown task 'yelp'"):
        load_config(suite([["yelp"]]))
    with pytest.raises(UserError, match="unknown task 'amazon'"):
        load_config(suite([["amazon"]], sources=["hub", "builtin"]))
    with pytest.raises(UserError, match=r"data\.sources\[0\] = 'web': must be one of folder, hub, builtin"):
        load_config(suite([["antonym"]], sources=["web"]))


def test_a_number_finds_its_file_and_no_other(tmp_path):
    file = write_folder_task(tmp_path, "task061_ropes", free_rows(definition="Do it."))
    write_folder_task(tmp_path, "task610_other", free_rows(definition="Do other."))
    for name in ("task061", "task61", "task061_ropes"):
        assert find_task(name, settings(tmp_path)).files == (file,)
        assert set(load_task(name, settings(tmp_path), 0).instruction) == {"Do it."}
    with pytest.raises(UserError, match="unknown task 'task061_rope'"):
        find_task("task061_rope", settings(tmp_path))


def write_selection(root, targets):
    rows = [
        (split, f"{split} {i}, {word}", word, {"choices": ["a", word], "label": 1})
        for split in ("train", "validation", "test")
        for i, word in enumerate(targets)
    ]
    write_folder_task(root, "choose_last_of_5", rows)


def test_a_composed_set_translates_what_is_selected(tmp_path, caplog):
    write_selection(tmp_path, ["dog", "cat", "emu", "dog"])
    pairs = [("train", "dog", "perro", {}), ("test", "cat", "gato", {}), ("train", "dog", "can", {})]
    write_folder_task(tmp_path, "english-spanish", pairs)
    made = prepare("choose_last_of_5_spanish", settings(tmp_path), 0)
    test = made.frame[made.frame.split == "test"].sort_values("example_id")
    assert test.target.tolist() == ["perro", "gato", "perro"]
    assert test.choices.isna().all()
    assert set(test.instruction) == {"Translate the last word of the list into Spanish."}
    assert made.dropped == {"english-spanish.parquet has no translation of their target": 3}
    assert "3 rows are dropped" in caplog.text
    assert [path.stem for path in made.source.files] == ["choose_last_of_5", "english-spanish"]


def test_a_translation_that_covers_nothing_is_refused(tmp_path):
    write_selection(tmp_path, ["dog"])
    write_folder_task(tmp_path, "english-spanish", [("train", "owl", "búho", {})])
    with pytest.raises(UserError, match=r"english-spanish\.parquet translates none of its targets"):
        load_task("choose_last_of_5_spanish", settings(tmp_path), 0)


def test_instruction_and_cue_of_a_benchmark_are_taken_off_its_inputs(tmp_path):
    entry = CATALOGUE["meetingbank"]
    rows = [(s, f"{entry.instruction}\n{x}\n{entry.cue}", y, {}) for s, x, y, _ in free_rows()]
    write_folder_task(tmp_path, "meetingbank", rows)
    frame = load_task("meetingbank", settings(tmp_path), 0)
    assert set(frame.instruction) == {entry.instruction}
    assert "train 3" in set(frame.input)
    write_folder_task(tmp_path, "meetingbank", free_rows())
    assert "train 3" in set(load_task("meetingbank", settings(tmp_path), 0).input)


def test_knowledge_form_and_instruction_of_a_set_with_options(tmp_path):
    write_folder_task(tmp_path, "arc_challenge", option_rows())
    row = load_task("arc_challenge", settings(tmp_path), 0).iloc[0]
    assert row.knowledge_prompt == f"Question: {row.input.splitlines()[0]}\nAnswer:"
    assert row.instruction == "Answer the question with the letter of the right option."


def test_every_dropped_row_is_counted(tmp_path):
    rows = [*free_rows(in_heldout_test=False), ("train", "t", "answer", {"in_heldout_test": False})]
    rows.append(("train", "secret", "answer", {"in_heldout_test": True}))
    write_folder_task(tmp_path, "plural", rows)
    made = prepare("plural", settings(tmp_path), 0)
    assert made.dropped == {
        "they are outside test but marked in_heldout_test": 1,
        "train: their input is also in test or validation": 1,
    }


def test_files_and_built_in_tasks_need_no_network(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    write_folder_task(tmp_path, "hellaswag", option_rows())
    assert len(load_task("hellaswag", settings(tmp_path), 0))
    assert len(load_task("plural", settings(), 0))
    assert load_config(suite([["plural"]]))
