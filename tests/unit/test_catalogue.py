"""The catalogue: names, page and sequences, sets made of several files, and no network without a hub."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from task_files import REPOSITORY, free_rows, option_rows, settings, write_folder_task

from anamnesis.config import load_config
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import BUILTIN
from anamnesis.data.catalogue import FOLDER, SUITES, catalogue, look_up, read_suite, sequences
from anamnesis.data.catalogue.table import page_text
from anamnesis.data.places import find_task
from anamnesis.data.preparation import load_task, prepare

PAGE = REPOSITORY / "docs" / "reference" / "catalogue.md"


def test_the_page_is_in_step_with_the_catalogue():
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_text(text), "run: PYTHONPATH=workflow python -m anamnesis.data.catalogue.table"
    assert all(f"`{name}`" in text for name in sequences())


def test_commits_are_whole():
    commits = [e.hub.revision for e in catalogue().values() if e.hub]
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)


def test_a_repository_has_one_commit_and_every_file_is_read():
    pinned = {(e.hub.repository, e.hub.revision) for e in catalogue().values() if e.hub}
    assert len(pinned) == len(dict(pinned))
    assert len(catalogue()) == sum(len(read_suite(FOLDER / f"{suite}.yaml")) for suite in SUITES)
    assert {file.stem for file in FOLDER.glob("*.yaml")} == {*SUITES, "superni", "sequences"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"licens": "MIT"}, r"entry 'toy', key 'licens': unknown key 'licens': did you mean 'licence'\?"),
        ({"hub": {"repo": "a/b"}}, r"entry 'toy', key 'hub\.repository' is missing; add it"),
        ({"hub": {"repository": "a/b", "revision": "main"}}, r"key 'hub\.revision': .*got 'main'"),
        ({"hub": {"columns": {"inputs": "{x}"}}}, r"key 'hub\.columns\.inputs'.*did you mean 'input'\?"),
        ({"epochs": "ten"}, r"key 'epochs': .*got 'ten'"),
        ({"paper": 2310.15213}, r"key 'paper': .*string, got 2310\.15213"),
        (None, r"entry 'toy': None is not a mapping; write \{\}"),
    ],
)
def test_what_is_no_entry_is_named_by_file_entry_and_key(tmp_path, entry, message):
    file = tmp_path / "toys.yaml"
    if entry and (columns := entry.get("hub", {}).get("columns")):
        entry = {
            "hub": {"repository": "a/b", "revision": None, "files": {}, "columns": {"input": "", **columns}}
        }
    content = {"suite": "toys", "defaults": {"paper": "1", "licence": "MIT"}, "sets": {"toy": entry}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as found:
        read_suite(file)
    assert str(found.value).startswith(f"{file}, entry 'toy'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: [", "cannot be read .*line"),
        ("- toy", "holds \\['toy'\\]: it must hold 'key: value' lines"),
        ("suite: a\nset: {}", "unknown key 'set': did you mean 'sets'"),
        ("suite: a\nsets: [toy]", "key 'sets': \\['toy'\\] is not a mapping"),
    ],
)
def test_a_file_of_a_suite_that_is_none_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "toys.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_suite(tmp_path / "toys.yaml")


TOY = """
  toy:
    paper: "0000.00000"
    licence: MIT
    hub:
      repository: a/toy
      revision: null
      files: {train: train.parquet, test: test.parquet}
      columns: {input: "{question}", target: "{answer}"}
"""
USE = """
from pathlib import Path
from anamnesis.config import load_config
from anamnesis.core.digest import code_digest
from anamnesis.data.catalogue import look_up
from anamnesis.data.files import RawRow
from anamnesis.data.mapping import map_row
suite = {"name": "own", "orders": [["plural"]], "held_out": ["toy"]}
load_config({"suite": suite, "interventions": {"sets": []}, "data": {"sources": ["hub", "builtin"]}})
row = RawRow(Path("a"), 1, {"question": "Is it?", "answer": "Yes"})
print(map_row(row, look_up("toy").hub.columns, "train").values["target"])
"""


def contents(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_new_set_touches_three_files_at_most_and_makes_nothing_stale(tmp_path):
    """Its entry and the page made from it; with a hub repository, a row to try the mapping on (hub_rows)."""
    shutil.copytree(
        REPOSITORY / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    shutil.copy(PAGE, tmp_path / "docs" / "reference" / "catalogue.md")
    before = contents(tmp_path)

    def run(*arguments: str) -> str:
        environment = {"PYTHONPATH": str(tmp_path / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    digests = "from anamnesis.core.digest import CodeDigests; from pathlib import Path; import sys; "
    digests += "scripts, memory = map(Path, sys.argv[1:]); code = CodeDigests(scripts, memory); "
    digests += "print({file.stem: code.of(file.stem) for file in sorted(scripts.glob('*.py'))})"
    stale = ["-c", digests, str(tmp_path / "workflow" / "scripts"), str(tmp_path.parent / "code.json")]
    digests_before = run(*stale)
    file = tmp_path / FOLDER.relative_to(REPOSITORY) / "held_out.yaml"
    file.write_text(file.read_text(encoding="utf-8").rstrip() + TOY, encoding="utf-8")
    run("-m", "anamnesis.data.catalogue.table")
    assert run("-c", USE) == "Yes\n"
    assert run(*stale) == digests_before
    after = contents(tmp_path)
    changed = sorted(str(path) for path in after if after[path] != before.get(path))
    assert changed == ["docs/reference/catalogue.md", str(file.relative_to(tmp_path))]


def test_sequences_name_sets_of_the_catalogue_in_all_orders():
    assert [task for tasks in sequences().values() for task in tasks if look_up(task) is None] == []
    assert len({tuple(sorted(sequences()[f"long-order{k}"])) for k in (4, 5, 6)}) == 1
    for size, orders in ((15, ["long-order4"]), (8, ["trace8-order1", "trace8-order2"]), (6, ["func"])):
        assert all(len(set(sequences()[order])) == size for order in orders)
    assert sorted(sequences()["trace6-order1"]) == sorted(sequences()["trace6-order2"])
    subjects = [s for e in catalogue().values() if "mmlu" in e.name for s in e.hub.columns.where[1]]
    assert len(set(subjects)) == len(subjects) == 57


def test_names_shared_with_built_in_tasks_have_the_same_words():
    same = [name for name in catalogue().keys() & BUILTIN.keys() if catalogue()[name].instruction is not None]
    assert same
    assert all(catalogue()[name].instruction == BUILTIN[name].instruction for name in same)


def suite(orders, **data):
    held_out = {"name": "own", "orders": orders, "held_out": ["antonym"]}
    return {"suite": held_out, "interventions": {"sets": []}, "data": data}


def test_an_order_may_be_the_name_of_a_sequence():
    config = load_config(suite(["long-order4", "long-order6"], sources=["hub", "builtin"]), SET_NAMES)
    assert [list(order) for order in config.suite.orders] == [
        list(sequences()["long-order4"]),
        list(sequences()["long-order6"]),
    ]
    with pytest.raises(UserError, match=r"suite\.orders\[0\] = 'long-order7'.*did you mean 'long-order"):
        load_config(suite(["long-order7"]))


SET_NAMES = {*catalogue(), "antonym"}


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
    entry = catalogue()["meetingbank"]
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
