"""A stage as others load it: its adapter's card, one exported model, and a hub that takes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import reference
from anamnesis.commands.export import main, push
from anamnesis.core.errors import UserError
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.models.cards import TAGS, OnHub, on_hub
from anamnesis.models.loading import load_model, merge_adapters
from anamnesis.training.tuning import save_tuned
from hub_server import COMMIT, Hub, Repository, serving
from hub_uploads import Uploads, taking_uploads
from tiny_models import GROUPED, drawn, save_snapshot, token_ids, tokenizer

PROMPT = token_ids(1, 9)[0]
LORA = {"rank": 2, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
STAGES = [f"results/tiny/func/inclora/order1/seed0/stage{k}" for k in (1, 2)]
ADAPTERS = [f"{stage}/adapter" for stage in STAGES]
SNAPSHOT = "results/models/tiny"
SOURCE, LICENCE = f"hf:a/tiny@{COMMIT}", {"license": "other", "license_name": "tiny-1"}


def tilted(model, seed: int):
    """The model with adapters that change it."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return model


def write_record(number: int) -> None:
    params = {
        "method": "inclora", "guidance": None,
        "model": {"name": "tiny", "source": "", "dtype": "float32"},
        "training": {"learning_rate": 8e-4, "epochs": 1, "batch_size": 8},
    }  # fmt: skip
    record = {"stage": number, "seed": 0, "examples": 16, "snapshot": SNAPSHOT, "params": params}
    record |= {"load_order": ADAPTERS[:number], "task": ("antonym", "hellaswag")[number - 1]}
    Path(STAGES[number - 1], "training.json").write_text(json.dumps(record))


@pytest.fixture
def chain(tmp_path, monkeypatch) -> Path:
    """The folder of a run with two trained stages, the second evaluated; the test runs in it."""
    monkeypatch.chdir(tmp_path)
    save_snapshot(Path(SNAPSHOT))
    for number, adapter in enumerate(ADAPTERS, start=1):
        model, _ = load_model(Path(SNAPSHOT), device="cpu")
        merged = merge_adapters(model, map(Path, ADAPTERS[: number - 1]))
        Path(adapter).mkdir(parents=True)
        tuned = tilted(add_lora(merged, LORA, number), number)
        save_adapter(tuned, Path(adapter), "tiny", ADAPTERS[: number - 1], adapter)
        write_record(number)
    Path(f"{SNAPSHOT}.json").write_text(json.dumps({"source": SOURCE, "licence": LICENCE}))
    Path("results/tasks").mkdir()
    Path("results/tasks/hellaswag.json").write_text(json.dumps({"source": "hub"}))
    scores = [
        ("antonym", "held_out", "instruction", 0, "exact_match", "generated", float(k < 3)) for k in range(4)
    ]
    columns = ["set", "role", "form", "shots", "metric", "scorer", "score"]
    pd.DataFrame(scores, columns=columns).assign(empty=False).to_parquet(
        Path(STAGES[1], "evaluation.parquet")
    )
    Path(STAGES[1], "evaluation.json").write_text(json.dumps({"split": "validation"}))
    return tmp_path


def trained() -> torch.Tensor:
    return reference.logits(
        merge_adapters(load_model(Path(SNAPSHOT), device="cpu")[0], map(Path, ADAPTERS)), PROMPT
    )


def test_the_exported_model_loads_alone_and_is_the_one_that_was_trained(chain, capsys):
    assert main([STAGES[1], "--to", "out"]) == 0
    assert "out" in capsys.readouterr().out
    expected = trained()
    (chain / "results").rename(chain / "elsewhere")  # nothing of the run is needed
    reference.close(reference.logits(AutoModelForCausalLM.from_pretrained("out"), PROMPT), expected)
    assert AutoTokenizer.from_pretrained("out")("hot").input_ids


def read_card(folder: Path) -> ModelCard:
    """The card of a folder, as the library reads it; what it names on the hub has names that can be there."""
    card = ModelCard.load(folder / "README.md")
    for name in (*(card.data.datasets or ()), *filter(None, [card.data.base_model])):
        validate_repo_id(name)
        assert "/" in name
    assert {*TAGS} <= {*card.data.tags}
    assert card.data.pipeline_tag == "text-generation"
    return card


def test_the_card_holds_the_scores(chain):
    assert main([STAGES[1], "--to", "out", "--dtype", "bfloat16"]) == 0
    card = read_card(Path("out"))
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("antonym", "exact_match", 0.75)
    assert result.dataset_split == "validation"
    assert result.dataset_args == {"shots": 0, "examples": 4}
    assert "| antonym | held out | instruction | 0 | exact_match | 75.0 | 4 |" in card.text
    assert card.data.datasets == ["Rowan/hellaswag"]  # of the two tasks the one that the hub has
    assert "Tasks, in the order in which they were learnt: antonym, hellaswag" in card.text
    assert (card.data.license, card.data.license_name) == ("other", "tiny-1")
    assert (card.data.library_name, card.data.base_model) == ("transformers", "a/tiny")
    assert AutoModelForCausalLM.from_pretrained("out", dtype="auto").dtype == torch.bfloat16


def test_a_stage_that_is_not_evaluated_has_a_card_without_scores(chain):
    assert main([STAGES[0], "--to", "out", "--adapter"]) == 0
    card = read_card(Path("out"))
    assert card.data.eval_results is None
    assert "Scores" not in card.text


# ---------------------------------------------------------------- one adapter, elsewhere


LOAD = """
import sys
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("out").eval()
assert AutoTokenizer.from_pretrained("out")("hot").input_ids
torch.save(model(torch.tensor([list(map(int, sys.argv[1:]))])).logits[0].detach(), "logits.pt")
"""


def on_another_machine(code: str, hub, folder: Path, token: str = "", *arguments) -> None:
    """Run code where nothing of this project is, with a hub of the tests."""
    environment = {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_adapter_of_a_chain_is_one_on_the_base_model_of_the_hub(chain):
    expected = trained()
    assert main([STAGES[1], "--to", "out", "--adapter"]) == 0
    settings = json.loads(Path("out/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("a/tiny", COMMIT)
    assert settings["r"] == 2 * LORA["rank"]
    card = read_card(Path("out"))
    assert (card.data.library_name, card.data.base_model) == ("peft", "a/tiny")
    assert card.data.eval_results[0].metric_value == 0.75
    Path("far").mkdir()
    Path("out").rename("far/out")
    files = {file.name: file.read_bytes() for file in Path(SNAPSHOT).iterdir()}
    with serving(Hub({"models/a/tiny": Repository(files)})) as hub:
        on_another_machine(LOAD, hub, chain / "far", "", *PROMPT)
    reference.close(torch.load("far/logits.pt"), expected)
    assert any(COMMIT in path for _, path, _ in hub.requests)  # of that revision


def test_the_adapter_of_a_tuned_start_has_the_tuning_in_it(chain):
    """The tuned model is nowhere else, and its adapter has more modules and another rank."""
    model, words = load_model(Path(SNAPSHOT), device="cpu")
    lora = {**LORA, "rank": 3, "target_modules": ["q_proj", "o_proj", "up_proj"]}
    tuned = tilted(add_lora(model, lora, 9), 9)
    save_tuned(tuned, words, "tiny", Path("results/tiny/tuned/adapter"), Path("results/tiny/tuned/model"))
    for stage in STAGES:
        record = json.loads(Path(stage, "training.json").read_text())
        record["snapshot"] = "results/tiny/tuned/model"
        record["params"]["model"] = {"name": "tiny, tuned (results/x)", "source": "", "dtype": "float32"}
        Path(stage, "training.json").write_text(json.dumps(record))
    start, _ = load_model(Path("results/tiny/tuned/model"), device="cpu")
    expected = reference.logits(merge_adapters(start, map(Path, ADAPTERS)), PROMPT)
    assert main([STAGES[1], "--to", "out", "--adapter"]) == 0
    assert "Base model: tiny, tuned. " in read_card(Path("out")).text
    base, _ = load_model(Path(SNAPSHOT), device="cpu")
    reference.close(reference.logits(PeftModel.from_pretrained(base, "out").eval(), PROMPT), expected)


@pytest.mark.parametrize("source", ["pypi:tiny==1.0", "path:/somewhere"])
def test_a_base_model_that_others_do_not_find_has_to_be_named(chain, source, capsys):
    Path(f"{SNAPSHOT}.json").write_text(json.dumps({"source": source}))
    assert main([STAGES[1], "--to", "out", "--adapter"]) == 1
    said = capsys.readouterr().err
    assert f"--adapter: the base model is from {source}, which PEFT on another machine does not find" in said
    assert said.count("\n") == 1
    assert main([STAGES[1], "--to", "out", "--adapter", "--base", "me/copy@v1"]) == 0
    settings = json.loads(Path("out/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("me/copy", "v1")
    assert main([STAGES[1], "--to", "out", "--base", "me/copy"]) == 0  # in place of the adapter
    assert read_card(Path("out")).data.base_model == "me/copy"
    for wrong in ("copy", "me/copy@", "me/my copy", "https://x.y/me/copy"):
        assert main([STAGES[1], "--to", "out", "--base", wrong]) == 1
        assert f"--base {wrong}: must be <account>/<name>" in capsys.readouterr().err


def test_tied_embeddings_stay_tied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tied = drawn(LlamaForCausalLM(LlamaConfig(**{**GROUPED, "tie_word_embeddings": True})))
    tied.save_pretrained(SNAPSHOT)
    tokenizer().save_pretrained(SNAPSHOT)
    adapted = tilted(add_lora(tied, LORA, 1), 1)
    with torch.no_grad():
        expected = reference.logits(adapted.eval(), PROMPT)
    Path(ADAPTERS[0]).mkdir(parents=True)
    save_adapter(adapted, Path(ADAPTERS[0]), "tiny", [], ADAPTERS[0])
    write_record(1)
    assert main([STAGES[0], "--to", "out"]) == 0
    alone = AutoModelForCausalLM.from_pretrained("out")
    assert alone.get_output_embeddings().weight is alone.get_input_embeddings().weight
    reference.close(reference.logits(alone, PROMPT), expected)


# ---------------------------------------------------------------- the adapters of a run


@pytest.mark.parametrize("number", [1, 2])
def test_the_snippet_of_an_adapters_card_gives_the_trained_model(chain, number):
    text = Path(ADAPTERS[number - 1], "README.md").read_text()
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    model = merge_adapters(load_model(Path(SNAPSHOT), device="cpu")[0], map(Path, ADAPTERS[:number]))
    reference.close(reference.logits(names["model"], PROMPT), reference.logits(model, PROMPT))
    assert read_card(Path(ADAPTERS[number - 1])).data.library_name == "peft"


def test_a_later_stages_adapter_alone_is_refused_by_peft(chain):
    """It would be another model than the one that was trained, without a word."""
    AutoPeftModelForCausalLM.from_pretrained(ADAPTERS[0])
    with pytest.raises(Exception, match=r"stage 2 needs the stages before it, see README\.md"):
        AutoPeftModelForCausalLM.from_pretrained(ADAPTERS[1])


def test_mistakes_are_said_in_one_line(chain, capsys):
    assert main(["results", "--to", "out"]) == 1
    assert "results is not the folder of a trained stage (no training.json)" in capsys.readouterr().err
    record = Path(STAGES[1], "training.json")
    record.write_text(record.read_text().replace('"method": "inclora"', '"method": "jfa"'))
    Path(ADAPTERS[1], "latent").mkdir()
    assert main([STAGES[1], "--to", "out"]) == 1
    assert "has latent tasks" in capsys.readouterr().err
    Path(SNAPSHOT).rename("gone")
    assert main([STAGES[0], "--to", "out"]) == 1
    assert f"error: {SNAPSHOT}, which {STAGES[0]} needs, is not here" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("place", ["results", "results/models/tiny", ADAPTERS[0], STAGES[0], "notes"])
def test_a_folder_that_was_not_exported_is_not_replaced(chain, place, capsys):
    Path("notes").write_text("mine")
    Path(ADAPTERS[0], "SHA256SUMS").write_text("")
    before = sorted(map(str, Path().rglob("*")))
    assert main([STAGES[1], "--to", place]) == 1
    assert f"error: --to {place} is there and was not exported" in capsys.readouterr().err
    assert sorted(map(str, Path().rglob("*"))) == before


def test_a_base_model_of_the_hub_is_named_as_there(tmp_path):
    assert on_hub("hf:Org/model@0123") == OnHub("Org/model", "0123")
    assert on_hub("pypi:llm==0.1") is on_hub("path:~/x") is None
    model, _ = load_model(save_snapshot(tmp_path / "model"), device="cpu")
    save_adapter(add_lora(model, LORA, 0), tmp_path, "tiny", [], where=OnHub("Org/model", "0123"))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("Org/model", "0123")
    card = read_card(tmp_path)
    assert card.data.base_model == "Org/model"
    assert 'from_pretrained("Org/model", revision="0123")' in card.text


PUSH = """
import sys
from pathlib import Path
from anamnesis.commands.export import push
print(push(Path("out"), "me/x"))
"""


def test_push_sends_the_folder_to_the_hub(chain):
    assert main([STAGES[1], "--to", "out"]) == 0
    with taking_uploads(Uploads("secret")) as hub:
        on_another_machine(PUSH, hub, chain, "secret")
    assert hub.created == [{"name": "x", "organization": "me", "visibility": "private"}]
    sent = {file.name: file.read_bytes() for file in Path("out").iterdir()}
    assert hub.files == sent


def test_push_without_a_token_says_so(chain, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "ANAMNESIS_USER_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="--push me/x: no token; set HF_TOKEN"):
        push(Path("out"), "me/x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="--push me/x: HF_HUB_OFFLINE is set"):
        push(Path("out"), "me/x")


@pytest.mark.parametrize("name", ["me/x", "not a name//"])
def test_what_cannot_be_sent_is_not_made_first(chain, name, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main([STAGES[1], "--to", "out", "--push", name]) == 1
    assert capsys.readouterr().err.startswith(f"error: --push {name}: ")
    assert not Path("out").exists()
