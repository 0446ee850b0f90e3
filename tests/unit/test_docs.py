"""The README and the pages: what they show can be run, and the path to a first own experiment is short."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from snakemake import cli
from transformers import AutoTokenizer

import tiny_models
from anamnesis.commands.__main__ import COMMANDS, main
from anamnesis.commands.run import snakemake_arguments
from anamnesis.config.describe import alternatives, schema_of
from anamnesis.config.load import load_config
from anamnesis.config.models import Config
from anamnesis.core.artifacts import write_json, write_parquet, write_tensors
from anamnesis.study import steered
from doc_blocks import PAGES, ROOT, TUTORIAL, blocks, commands, write_tutorial

KINDS = ("tutorial", "how-to", "reference", "explanation")
ELSEWHERE = ("squeue", "source", "bash", "pip", "lm_eval")  # programs that are no part of this project
SCHEMA = schema_of(Config)
SNAPSHOT, ADAPTER = "results/models/smollm2-135m-instruct", "results/smollm2-135m-instruct/tuned/adapter"
TURNS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_the_path_to_a_first_experiment_of_ones_own_is_short():
    """README and tutorial, code and tables included."""
    words = [(ROOT / page).read_text(encoding="utf-8").split() for page in ("README.md", TUTORIAL)]
    assert sum(map(len, words)) <= 1200


def test_every_page_is_of_one_kind():
    homes = {str(page.relative_to(ROOT / "docs").parent) for page in PAGES[1:]}
    assert homes == {".", *KINDS}
    assert [page.name for page in PAGES[1:] if page.parent == ROOT / "docs"] == ["index.md"]


def test_every_command_line_is_of_a_program_that_a_test_runs():
    tested = {"make", "snakemake", "anamnesis", "python"}
    for block in blocks("bash"):
        for line in block.text.splitlines():
            words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
            program = words[0].removeprefix(".venv/bin/") if words else "source"
            assert program in tested or program in ELSEWHERE or program.startswith("#"), (block.name, line)


@pytest.mark.parametrize("line", commands("make"))
def test_make_knows_the_target(line):
    done = subprocess.run(f"{line} --dry-run", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", commands("anamnesis"))
def test_commands_of_the_library_run(line, tmp_path, monkeypatch):
    _, name, *arguments = line.split()
    assert name in COMMANDS
    write_tutorial(tmp_path, tiny_models.save_snapshot(tmp_path / "tiny"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").symlink_to(ROOT / "config.yaml")
    if name == "run":  # Snakemake understands it
        cli.parse_args(snakemake_arguments(arguments))
        return
    if name in (
        "estimate",
        "export",
        "export_tasks",
        "headline",
        "crate",
    ):  # what they do has tests of its own
        arguments = ["--help"]
    try:
        status = main([name, *arguments])
    except SystemExit as end:  # argparse ends with it
        status = end.code
    assert status == 0


@pytest.mark.parametrize("line", commands("python"))
def test_python_files_are_there_and_take_the_options(line):
    _, first, *arguments = line.split()
    if first == "-m":
        module, *arguments = arguments
        file = ROOT / "workflow" / f"{module.replace('.', '/')}.py"
    else:
        file = ROOT / first
    source = file.read_text(encoding="utf-8")
    assert all(f'"{option}"' in source for option in arguments if option.startswith("--"))


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_configurations_have_keys_that_exist(block):
    content = yaml.safe_load(block.text)
    if "set-resources" not in content:  # a profile of Snakemake: test_profiles.py
        assert not list(unknown_keys(content, SCHEMA))


def unknown_keys(content, node, path=""):
    """The keys of a configuration that the schema does not have."""
    options = alternatives(node, SCHEMA)
    known = {name: value for option in options for name, value in option.get("properties", {}).items()}
    named = [value for option in options for value in option.get("patternProperties", {}).values()]
    for key, value in content.items():
        inner = known.get(key) or next(iter(named), None)
        if inner is None:
            yield f"{path}{key}"
        elif isinstance(value, dict) and any(
            {"properties", "patternProperties"} & option.keys() for option in alternatives(inner, SCHEMA)
        ):
            yield from unknown_keys(value, inner, f"{path}{key}.")


def test_unknown_keys_are_found():
    wrong = {"data": {"tasks": {"a": {"path": "b", "metrc": None}}}, "sed": 1, "seed": 1}
    assert list(unknown_keys(wrong, SCHEMA)) == ["data.tasks.a.metrc", "sed"]


def test_the_experiment_of_the_tutorial_is_valid(tmp_path, monkeypatch):
    write_tutorial(tmp_path, tiny_models.save_snapshot(tmp_path / "tiny"))
    monkeypatch.chdir(tmp_path)
    config = load_config([ROOT / "config.yaml", "mine.yaml"])
    assert list(config.data.tasks) == ["last_letter"]
    assert config.suite.orders[0][0] == "last_letter"


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_python_examples_run_as_printed(page, tmp_path, monkeypatch):
    """Those of a page one after the other, on a tiny random model and adapter in the place of the real ones;
    layers and scales become those of the tiny model.
    """
    if page == "docs/how-to/harness.md":
        pytest.importorskip("lm_eval", reason="needs the extra harness")
    for folder in (SNAPSHOT, "exported"):
        tiny_models.save_snapshot(tmp_path / folder)
    chatty = AutoTokenizer.from_pretrained(tmp_path / SNAPSHOT)
    chatty.chat_template = TURNS
    chatty.save_pretrained(tmp_path / SNAPSHOT)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj", "o_proj"])
    get_peft_model(tiny_models.build("llama"), lora).save_pretrained(tmp_path / ADAPTER)
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "results")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    scope: dict = {}
    for block in (block for block in blocks("python") if block.page == page):
        assert sum(bool(line.strip()) for line in block.text.splitlines()) <= 20, block.name
        exec(fitted(block.text), scope)
    if page == "docs/how-to/library.md":
        check_studies(scope)
    if page == "docs/how-to/other-tools.md":
        check_other_tools(scope)


def write_results(results: Path) -> None:
    """Some files of a run."""
    theta = 5 * torch.randn(48, generator=torch.Generator().manual_seed(0))
    vectors = results / "smollm2-135m-instruct/vectors"
    write_tensors(vectors / "antonym/instruction_vector.safetensors", {"theta": theta})
    write_json(vectors / "heads.json", {"heads": [{"rank": 1, "layer": 1, "head": 2, "effect": 0.5}]})
    for method, parts in (("a", {"kl": 1.0}), ("b", {})):
        stage = results / f"smollm2-135m-instruct/func/{method}/order1/seed0/stage1"
        write_parquet(stage / "evaluation.parquet", pd.DataFrame([{"set": "antonym", "score": 1.0}]))
        write_parquet(stage / "training.parquet", pd.DataFrame([{"step": 0, "loss": 2.0, **parts}]))
    write_parquet(results / "tasks/antonym.parquet", pd.DataFrame([{"input": "hot", "target": "cold"}]))


def check_other_tools(scope: dict) -> None:
    """What the page on other tools leaves behind: its hook does what the library does."""
    model, inputs, theta = (scope[name] for name in ("model", "inputs", "theta"))
    with torch.no_grad():
        plain = model(**inputs).logits[:, -1]
        with model.model.layers[1].register_forward_hook(scope["add_to_last_token"]):
            hooked = model(**inputs).logits[:, -1]
        with steered(model, theta, layers=1, positions="last_prompt_token"):
            ours = model(**inputs).logits[:, -1]
    torch.testing.assert_close(hooked, ours)
    assert (hooked - plain).abs().max() > 0.1
    assert scope["steps"]["kl"] == [1.0, None]


def fitted(code: str) -> str:
    """The layers of an example among the three of the tiny model, whose weights take a larger scale."""
    code = re.sub(r"\b(12|15|17)\b", lambda layer: str(int(layer[0]) % 3), code)
    return re.sub(r"scale=0\.\d", "scale=50.0", code)


def check_studies(scope: dict) -> None:
    """What the page on the library leaves behind."""
    study, loaded, both = scope["study"], scope["loaded"], scope["both"]
    assert study.vector.shape == (48,)
    assert study.effects.values.shape == (15, 3, 4)
    assert loaded.vector.equal(study.vector)
    assert list(both.vectors) == ["past", "plural"]
    assert scope["chat"].template.after.startswith("\ufdd0<end>")
    assert study.answer("teach", layers=1, scale=50.0) != study.answer("teach")
    texts = scope["texts"]
    assert len(texts) == 2
    assert texts != scope["tokenizer"].batch_decode(scope["plain"], skip_special_tokens=True)
    assert scope["right"].shape == (1, 2, 2)
    assert set(scope["differences"].columns) >= {"cosine", "effect_first", "effect_second"}


def test_targets_named_in_sentences_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert {"run", "docs", "watch"} <= named <= targets
