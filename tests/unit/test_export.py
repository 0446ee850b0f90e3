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
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

import reference
from anamnesis.commands.export import main, push
from anamnesis.core.errors import UserError
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.models.cards import hub_id
from anamnesis.models.loading import load_model, merge_adapters
from hub_uploads import Uploads, taking_uploads
from tiny_models import save_snapshot, token_ids

PROMPT = token_ids(1, 9)[0]
LORA = {"rank": 2, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
STAGES = [f"results/tiny/func/inclora/order1/seed0/stage{k}" for k in (1, 2)]
ADAPTERS = [f"{stage}/adapter" for stage in STAGES]
SNAPSHOT = "results/models/tiny"


@pytest.fixture
def chain(tmp_path, monkeypatch) -> Path:
    """The folder of a run with two trained stages, the second evaluated; the test runs in it."""
    monkeypatch.chdir(tmp_path)
    save_snapshot(Path(SNAPSHOT))
    for number, (stage, adapter) in enumerate(zip(STAGES, ADAPTERS, strict=True), start=1):
        model, _ = load_model(Path(SNAPSHOT), device="cpu")
        tuned = add_lora(merge_adapters(model, map(Path, ADAPTERS[: number - 1])), LORA, number)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(number))
        Path(adapter).mkdir(parents=True)
        save_adapter(tuned, Path(adapter), "tiny", ADAPTERS[: number - 1], adapter)
        params = {
            "method": "inclora", "guidance": None,
            "model": {"name": "tiny", "source": "", "dtype": "float32"},
            "training": {"learning_rate": 8e-4, "epochs": 1, "batch_size": 8},
        }  # fmt: skip
        record = {"stage": number, "seed": 0, "examples": 16, "snapshot": SNAPSHOT, "params": params}
        record["load_order"] = ADAPTERS[:number]
        Path(stage, "training.json").write_text(json.dumps(record))
    scores = [
        ("antonym", "held_out", "instruction", 0, "exact_match", "generated", float(k < 3)) for k in range(4)
    ]
    columns = ["set", "role", "form", "shots", "metric", "scorer", "score"]
    pd.DataFrame(scores, columns=columns).assign(empty=False).to_parquet(
        Path(STAGES[1], "evaluation.parquet")
    )
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


def test_the_card_holds_the_scores(chain):
    assert main([STAGES[1], "--to", "out", "--dtype", "bfloat16"]) == 0
    card = ModelCard.load(Path("out/README.md"))
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("antonym", "exact_match", 0.75)
    assert card.data.datasets == ["antonym"]
    assert "| antonym | held out | instruction | 0 | exact_match | 75.0 | 4 |" in card.text
    assert AutoModelForCausalLM.from_pretrained("out", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize("number", [1, 2])
def test_the_snippet_of_an_adapters_card_gives_the_trained_model(chain, number):
    text = Path(ADAPTERS[number - 1], "README.md").read_text()
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    model = merge_adapters(load_model(Path(SNAPSHOT), device="cpu")[0], map(Path, ADAPTERS[:number]))
    reference.close(reference.logits(names["model"], PROMPT), reference.logits(model, PROMPT))
    assert ModelCard(text).data.library_name == "peft"


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


def test_a_base_model_of_the_hub_is_named_as_there(tmp_path):
    assert hub_id("hf:Org/model@0123") == "Org/model"
    assert hub_id("pypi:llm==0.1") is hub_id("path:~/x") is None
    model, _ = load_model(save_snapshot(tmp_path / "model"), device="cpu")
    save_adapter(add_lora(model, LORA, 0), tmp_path, "tiny", [], on_hub="Org/model")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "Org/model"
    assert ModelCard.load(tmp_path / "README.md").data.base_model == "Org/model"


PUSH = """
import sys
from pathlib import Path
from anamnesis.commands.export import push
print(push(Path("out"), "me/x"))
"""


def test_push_sends_the_folder_to_the_hub(chain):
    assert main([STAGES[1], "--to", "out"]) == 0
    with taking_uploads(Uploads("secret")) as hub:
        environment = {
            "HF_ENDPOINT": hub.url, "HF_TOKEN": "secret", "HF_HOME": str(chain / "home"),
            "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin",
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", PUSH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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
