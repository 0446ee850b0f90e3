"""Tables of what was run, and the comparison of tables with reference ones."""

from __future__ import annotations

import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import yaml

from anamnesis.analyses.settings_tables import tables as settings
from anamnesis.commands.compare import compare_folders, compare_tables, main
from anamnesis.config.models import Config
from anamnesis.config.variants import resolve
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.data.prompts import Template

ROLES = {
    "news_topic": "train_task",
    "capital_choice": "held_out",
    "antonym": "held_out",
    "english_spanish": "held_out",
}
SIZES = {"train": 6, "validation": 3, "test": 5}


@pytest.fixture(scope="module")
def tasks():
    return {name: builtin_task(name, 0, SIZES) for name in ROLES}


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "suite": {"name": "s", "orders": [["news_topic"]], "held_out": ["capital_choice", "antonym"]},
            "interventions": {"sets": []},
            "training": {"methods": ["inclora", "inclora-ivg", "ewc"], "epochs": 3},
            "methods": {"ewc": {"rank": 48}},
        }
    )


def test_both_forms_of_a_task_are_shown_where_there_are_two(tasks):
    table = settings.task_forms(tasks).set_index("set")
    for name in ("capital_choice", "antonym"):
        assert table.loc[name, "knowledge_prompt"] != ""
    for name in ("news_topic", "english_spanish"):
        assert table.loc[name, "knowledge_prompt"] == ""
    for name, frame in tasks.items():
        assert table.loc[name, "input"] in set(frame[frame.split == "test"].input)


def test_data_statistics_count_the_examples(tasks):
    table = settings.data_statistics(tasks, ROLES).set_index("set")
    assert table.loc["news_topic", ["train", "validation", "test"]].to_list() == [6, 3, 5]
    assert table.loc["antonym", "answer"] == "generated"
    assert table.loc["news_topic", "answer"] == "one of 4"
    words = [len(x.split()) for x in tasks["news_topic"].query("split == 'test'").input]
    assert table.loc["news_topic", "words"] == pytest.approx(np.mean(words), abs=0.05)


def test_templates_are_what_the_model_sees(tasks):
    table = settings.templates(tasks, Template())
    shown = table[(table["set"] == "antonym") & (table.form == "instruction")].prompt.item()
    example = tasks["antonym"].query("split == 'test'").iloc[0]
    rendered = Template().render(example.instruction, [], example.input)
    assert shown.replace("\\n", "\n").replace("{x}", example.input) == rendered
    assert set(table.loc[table.form == "knowledge", "set"]) == {"capital_choice", "antonym"}


def test_hyper_parameters_are_those_in_force(config):
    methods = {name: asdict(resolve(config, name)) for name in config.training.methods}
    table = settings.hyper_parameters(methods).set_index("setting")
    assert table.loc["training.epochs"].to_list() == ["3", "3", "3"]
    assert table.loc["training.lora.rank"].to_list() == ["8", "8", "48"]
    assert [float(alpha) for alpha in table.loc["training.lora.alpha"]] == [16, 16, 96]
    assert table.loc["guidance.kl.weight"].to_list() == ["–", "0.05", "–"]
    assert table.loc["methods.ewc.merge"].to_list() == ["–", "–", "sum"]


def test_vector_settings_name_the_heads_and_the_prompts(config):
    heads = pd.DataFrame(
        {"rank": [2, 1, 3], "layer": [4, 9, 1], "head": [0, 2, 1], "selected": [True, True, False]}
    )
    record = {"averaged_over": "all", "correct": 3, "prompts": 40}
    table = (
        settings.vector_settings(config.model_dump(mode="json")["vectors"], heads, {"antonym": record})
        .set_index("setting")
        .value
    )
    assert table["head set S (layer.head)"] == "9.2, 4.0"
    assert table["prompts averaged, antonym"] == "40 (3 correct of 40)"


def test_tables_survive_as_markdown_and_latex(tasks):
    table = settings.task_forms(tasks)
    assert settings.as_markdown(table, "Both forms.").count("\n|") == len(table) + 1
    latex = settings.as_latex(table, "100 % of it")
    assert latex.count(r"\\") == len(table) + 1
    assert r"100 \% of it" in latex
    assert not re.search(r"(?<!\\)%", latex)


FRAME = pd.DataFrame(
    {"set": ["a", "a", "b"], "stage": [0, 1, 0], "value": [0.5, 0.25, np.nan], "n": [20, 20, 20]}
)


def test_equal_tables_have_no_difference_in_any_order_of_rows():
    assert compare_tables(FRAME, FRAME) == []
    assert compare_tables(FRAME.iloc[::-1], FRAME) == []
    assert compare_tables(FRAME.assign(value=FRAME.value + 1e-13), FRAME) == []


def test_differences_say_where_and_how_much():
    (line,) = compare_tables(FRAME.assign(value=[0.5, 0.5, np.nan]), FRAME)
    assert line == (
        "value: 1 of 3 rows differ, on average by 0.25, most at set a, stage 1: 0.5 instead of 0.25"
    )
    lines = compare_tables(FRAME.iloc[1:].drop(columns="n").assign(more=1), FRAME)
    assert lines == [
        "lacks column n", "has the new column more", "1 rows only in the reference, such as set a, stage 0",
    ]  # fmt: skip
    (line,) = compare_tables(FRAME.fillna(1.0), FRAME)
    assert "value: 1 of 3 rows differ" in line
    assert "1 instead of nan" in line


def test_repeated_rows_are_matched_in_their_order():
    double = pd.concat([FRAME, FRAME.assign(value=0.75)], ignore_index=True)
    assert compare_tables(double, double) == []
    assert "only here" in compare_tables(double, FRAME)[0]


def test_compare_command_looks_at_figures_tables_and_settings(tmp_path, monkeypatch, capsys, pytestconfig):
    monkeypatch.chdir(tmp_path)
    suite, reference = tmp_path / "out" / "smollm2-135m-instruct" / "mine", tmp_path / "reference"
    for folder, name in ((suite / "figures", "one"), (suite, "two"), (reference, "one"), (reference, "two")):
        folder.mkdir(parents=True, exist_ok=True)
        FRAME.to_csv(folder / f"{name}.csv", index=False)
    FRAME.assign(value=0.0).to_csv(reference / "two.csv", index=False)
    FRAME.to_csv(reference / "three.csv", index=False)
    change = tmp_path / "change.yaml"
    change.write_text(yaml.safe_dump({"results": "out", "suite": {"name": "mine"}}))
    assert main([str(reference), str(pytestconfig.rootpath / "config.yaml"), str(change)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one.csv: the same"
    assert lines[1] == "three.csv: not made in this experiment"
    assert lines[2] == "two.csv: differs"
    assert main([]) == 2
    with pytest.raises(UserError, match="holds no CSV"):
        compare_folders(suite, tmp_path)
