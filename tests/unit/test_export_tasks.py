"""Our sets as tasks of lm-evaluation-harness: the same questions, and the same answers item for item."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

import tiny_models
from anamnesis.commands.export_tasks import export_tasks, main
from anamnesis.config.load import load_config
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.data.prompts import Template
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.evaluation.harness.export import ANSWER_LINE
from anamnesis.evaluation.harness.task_files import check_folder
from anamnesis.evaluation.records import EvaluationSet, Evaluator

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 8, "validation": 2, "test": 6}
SETS = ("capital_choice", "plural")  # ranked in both forms; generated
SHOTS, TOKENS = 2, 5


def config_in(folder: Path, **changes):
    settings = {
        "results": str(folder / "results"),
        "suite": {"orders": [["plural"]], "held_out": ["capital_choice"]},
        "vectors": {"tasks": None},
        "interventions": {"sets": []},
        "evaluation": {"shots": SHOTS, "max_new_tokens": TOKENS, **changes},
    }
    return load_config([ROOT / "config.yaml", settings])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(a folder of our sets as tasks, their names)."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "results/tasks").mkdir(parents=True)
    for name in SETS:
        builtin_task(name, 0, SIZES).to_parquet(folder / f"results/tasks/{name}.parquet")
    return folder / "tasks", export_tasks(config_in(folder), folder / "tasks")


def test_every_form_is_a_task_without_code(written):
    folder, names = written
    forms = ("instruction_0shot", "instruction_2shot")
    assert set(names) == {
        *(f"{name}_{form}" for name in SETS for form in forms),
        "capital_choice_knowledge_0shot",
        "capital_choice_knowledge_2shot",
    }
    check_folder(folder)
    for name in names:
        assert yaml.safe_load((folder / f"{name}.yaml").read_text())["tag"] == "anamnesis"
        assert len(pd.read_parquet(folder / f"{name}.parquet")) == SIZES["test"]


def test_the_harness_gives_the_same_answers_item_for_item(written):
    pytest.importorskip("lm_eval", reason="needs the extra harness: pip install 'anamnesis[harness]'")
    from anamnesis.evaluation.harness.run import evaluate_tasks

    engine, tokenizer = PrefixEngine(tiny_models.shared("llama")), tiny_models.tokenizer()
    forms = ("instruction", "knowledge")
    evaluator = Evaluator(engine, tokenizer, Template(), SHOTS, forms, 512, seed=0)
    sets = [EvaluationSet(name, "held_out", builtin_task(name, 0, SIZES), TOKENS) for name in SETS]
    ours = evaluator.evaluate(sets)
    theirs, _ = evaluate_tasks(engine, tokenizer, ["anamnesis"], written[0])
    assert len(theirs) == len(ours)
    for (name, form, shots), rows in ours.groupby(["set", "form", "shots"]):
        found = theirs[theirs["set"] == f"{name}_{form}_{shots}shot"]
        for column in ("prediction", "target", "score"):
            assert list(found[column].str.strip() if column == "prediction" else found[column]) == list(
                rows[column]
            )
        if name == "capital_choice":
            for one, other in zip(found["choice_logprobs"], rows["choice_logprobs"], strict=True):
                assert one == pytest.approx(other, abs=1e-4)
            assert list(found["prompt_sha256"]) == list(rows["prompt_sha256"])
    assert ours["prediction"].nunique() > 6


@pytest.mark.parametrize("text", ["cold", " cold \nand more", "\n\n  cold\n", "   \n\tcold", "a b\r\nc"])
def test_the_answer_is_the_first_line_with_text(text):
    import re

    from anamnesis.data.text import answer_line

    assert re.findall(ANSWER_LINE, text)[0].strip() == answer_line(text)


def test_what_cannot_be_written_is_named_in_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match="not prepared yet: plural, capital_choice; run `snakemake"):
        export_tasks(config_in(tmp_path), tmp_path / "tasks")
    with pytest.raises(UserError, match="demonstration_draws = 2"):
        export_tasks(config_in(tmp_path, demonstration_draws=2), tmp_path / "tasks")
    assert main([str(ROOT / "config.yaml"), "--to", str(tmp_path / "tasks"), "--sets", "nothing"]) == 1
    assert "unknown set 'nothing'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    (tmp_path / "results/tasks").mkdir(parents=True)
    for name in ("plural", "capital_choice"):
        builtin_task(name, 0, {**SIZES, "train": 20}).to_parquet(tmp_path / f"results/tasks/{name}.parquet")
    with pytest.raises(UserError, match=r"--to .*/file cannot be a folder"):
        export_tasks(config_in(tmp_path), tmp_path / "file")


def test_the_command_says_how_to_ask_them(tmp_path, capsys):
    (tmp_path / "results/tasks").mkdir(parents=True)
    builtin_task("plural", 0, {**SIZES, "train": 20}).to_parquet(tmp_path / "results/tasks/plural.parquet")
    own = tmp_path / "own.yaml"
    own.write_text(f"results: {tmp_path / 'results'}\n")
    files = [str(ROOT / "config.yaml"), str(own)]
    assert main([*files, "--to", str(tmp_path / "tasks"), "--sets", "plural"]) == 0
    assert f"lm_eval --include_path {tmp_path / 'tasks'} --tasks anamnesis" in capsys.readouterr().out
