"""What every training method promises, guided or not: adapters that PEFT alone can load, and stages that
survive a kill. A new method is covered without a change here.
"""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import tiny_models
from anamnesis.commands import export
from anamnesis.config.methods import Methods
from anamnesis.core.artifacts import read_tensors, write_parquet, write_tensors
from anamnesis.core.errors import UserError
from anamnesis.models import adapters
from anamnesis.models.cards import OnHub
from anamnesis.models.loading import load_model
from anamnesis.training.loop import StageTrainer
from anamnesis.training.prepare import prepare_stage
from anamnesis.training.slices import Needs, method_names, slice_of
from anamnesis.training.stage_files import StageFiles

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "train_stage.py"
TASKS = {"first": "Say the opposite.", "second": "Name the capital of the country."}
TRAINING = {
    "epochs": 2,
    "batch_size": 2,
    "gradient_accumulation": 1,
    "learning_rate": 0.02,
    "optimizer": "adamw_torch",
    "scheduler": "linear",
    "weight_decay": 0.01,
    "warmup_ratio": 0.0,
    "max_input_tokens": 64,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]},
}
GUIDANCE = {
    "schedule": "linear",
    "plateau": 0.25,
    "intervention": True,
    "heads": 2,
    "kl": {
        "weight": 0.05,
        "teacher": "previous",
        "positions": "all",
        "direction": "student_teacher",
        "temperature": 2.0,
        "temperature_squared": False,
        "reduction": "sum",
    },
    "vectors_from": "initial",
    "control": "none",
}
MODEL = {"name": "tiny", "source": "", "dtype": "float32", "device": "cpu", "gpus": 1}
PROMPTS = {"input_label": "Input:", "output_label": "Output:", "separator": "\n\n"}
LAYERS, HEADS, HEAD_DIM, HIDDEN = 3, 4, 12, 48
CHECKPOINT_STEPS, KILLED_AT = 2, 3


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with a model, two tasks of 6 examples, a ranking of heads and the tasks' vectors."""
    folder = tmp_path_factory.mktemp("study")
    tiny_models.save_snapshot(folder / "model")
    noise = torch.Generator().manual_seed(0)
    for task, instruction in TASKS.items():
        rows = {"input": [f"{task} {i}" for i in range(6)], "target": [f"other {i % 3}" for i in range(6)]}
        names = [f"train-{i}" for i in range(6)]
        frame = pd.DataFrame(rows).assign(split="train", example_id=names, instruction=instruction)
        write_parquet(folder / f"{task}.parquet", frame)
        mean = torch.randn(LAYERS, HEADS, HEAD_DIM, generator=noise)
        write_tensors(folder / f"{task}-mean.safetensors", {"mean": mean})
        theta = torch.randn(HIDDEN, generator=noise)
        write_tensors(folder / f"{task}-vector.safetensors", {"theta": theta})
    ranking = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    heads = pd.DataFrame(ranking, columns=["layer", "head"])
    write_parquet(folder / "heads.parquet", heads.assign(selected=heads.index.isin([1, 6])))
    return folder


@pytest.fixture(params=["plain", "ivg"])
def guidance(request):
    return GUIDANCE if request.param == "ivg" else None


@pytest.fixture(params=method_names())
def train(request, study, guidance):
    """``train(folder, number, earlier)``: the adapter of a stage, trained by the workflow's own script."""
    method, needs = request.param, slice_of(request.param).needs
    section = getattr(Methods(), method, None)
    settings = {} if section is None else section.model_dump(mode="json", exclude={"rank"})
    main = runpy.run_path(str(SCRIPT))["main"]
    names = list(TASKS)

    def run(folder: Path, number: int, earlier=()) -> Path:
        task = names[number - 1]
        record = main(
            snapshot=str(study / "model"),
            task=str(study / f"{task}.parquet"),
            method=method,
            needs=asdict(needs),
            stage=number,
            seed=0,
            model=MODEL,
            training=TRAINING,
            settings=settings,
            prompts=PROMPTS,
            batch_tokens=64,
            checkpoint_steps=CHECKPOINT_STEPS,
            adapter=str(folder / "adapter"),
            steps=str(folder / "training.parquet"),
            earlier=[] if needs.adapter == "alone" else [str(adapter) for adapter in earlier],
            past=[str(study / f"{n}.parquet") for n in names[: number - 1]] if needs.past else [],
            guidance=guidance,
            heads=str(study / "heads.parquet") if guidance or needs.vector else None,
            vector=str(study / f"{task}-vector.safetensors") if needs.vector else None,
            mean=str(study / f"{task}-mean.safetensors") if guidance else None,
        )
        assert record["method"] == method
        params = {"method": method, "guidance": guidance, "model": MODEL, "training": TRAINING}
        (folder / "training.json").write_text(json.dumps(record | {"params": params}))
        return folder / "adapter"

    return run


@pytest.fixture
def trained(monkeypatch):
    """Fills with the logits of each stage's model at the moment its adapter is saved."""
    tokens, seen = torch.tensor(tiny_models.token_ids(7, 12)), []
    save = adapters.save_adapter

    def watched(model, *rest):
        with torch.no_grad():
            seen.append(model.eval()(tokens).logits)
        save(model, *rest)

    monkeypatch.setattr(adapters, "save_adapter", watched)
    return tokens, seen


def follow_note(adapter: Path, snapshot: Path):
    """The model that the README beside an adapter says how to load: its list and its code, word for word."""
    note = (adapter / "README.md").read_text(encoding="utf-8")
    order = [
        str(adapter) if name == "this adapter" else name for name in re.findall(r"^\d+\. (.+)$", note, re.M)
    ]
    names = {"base": snapshot, "this_adapter": adapter, "adapters_in_this_order": order}
    exec(re.search(r"```python\n(.*?)```", note, re.S)[1], names)
    return names["model"].eval()


def check_exports(stage: Path, folder: Path, snapshot: Path, tokens, expected) -> None:
    """A stage's merged model loads alone, and its whole chain is one adapter; where that cannot be, it is
    refused.
    """
    if (stage / "adapter" / "latent").exists():
        with pytest.raises(UserError, match="latent tasks"):
            export.read_stage(stage)
        return
    trained = export.read_stage(stage, OnHub("a/tiny"))
    export.export_merged(trained, folder / "merged", "merged")
    models = [AutoModelForCausalLM.from_pretrained(folder / "merged")]
    osf = "OSF" in (stage / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    if osf and len(trained.record["load_order"]) > 1:
        with pytest.raises(UserError, match="no low-rank adapter"):
            export.export_adapter(trained, folder / "one", "one")
    else:
        export.export_adapter(trained, folder / "one", "one")
        models.append(PeftModel.from_pretrained(load_model(snapshot, device="cpu")[0], folder / "one"))
    for model in models:
        with torch.no_grad():
            found = model.eval()(tokens).logits
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def files_of(adapter: Path) -> list[Path]:
    return sorted(file.relative_to(adapter) for file in adapter.rglob("*"))


def kill_at(monkeypatch, step: int) -> None:
    whole = StageTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == step:
            raise Killed
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "training_step", dies)


def test_two_stages_load_with_peft_alone_and_survive_a_kill(tmp_path, study, train, trained, monkeypatch):
    """One test for both, as they need the same two stages."""
    first = train(tmp_path / "stage1", 1)
    second = train(tmp_path / "stage2", 2, [first])
    tokens, seen = trained
    for adapter, expected in zip((first, second), seen, strict=True):
        with torch.no_grad():
            found = follow_note(adapter, study / "model")(tokens).logits
        # a merged weight is rounded where the adapter beside it was not
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert (seen[1] - seen[0]).abs().max() > 1e-2
    check_exports(tmp_path / "stage2", tmp_path, study / "model", tokens, seen[1])

    with monkeypatch.context() as patch:
        kill_at(patch, KILLED_AT)
        with pytest.raises(Killed):
            train(tmp_path / "killed", 2, [first])
    assert not (tmp_path / "killed" / "adapter").exists()
    assert list((tmp_path / "killed").glob(f".checkpoints/*/checkpoint-{CHECKPOINT_STEPS}"))
    resumed = train(tmp_path / "killed", 2, [first])
    assert files_of(resumed) == files_of(second)
    for file in second.rglob("*.safetensors"):
        again = read_tensors(resumed / file.relative_to(second))
        for name, tensor in read_tensors(file).items():
            assert torch.equal(again[name], tensor), f"{file.name}: {name}"
    logs = [pd.read_parquet(folder / "training.parquet") for folder in (second.parent, resumed.parent)]
    pd.testing.assert_frame_equal(*logs)
    assert not (tmp_path / "killed" / ".checkpoints").exists()


def test_stages_of_a_chain_share_its_seed_and_have_one_each(study):
    files = StageFiles(str(study / "model"), str(study / "first.parquet"))
    stages = [
        prepare_stage(files, asdict(Needs()), number, seed, MODEL, TRAINING, {}, PROMPTS, 64)[0]
        for number, seed in ((1, 3), (2, 3), (1, 4))
    ]
    assert [stage.chain_seed for stage in stages] == [3, 3, 4]  # the controls of guidance are drawn from it
    assert len({stage.seed for stage in stages}) == 3
