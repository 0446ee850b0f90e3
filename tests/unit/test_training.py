"""Examples, adapters and the training loop: what is trained on, what is saved, and that a killed stage loses
nothing.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import tiny_models
from anamnesis.core.artifacts import write_sums
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template, generator
from anamnesis.engine.batches import shuffled_batches, spread
from anamnesis.engine.examples import build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, save_adapter
from anamnesis.models.loading import load_model, merge_adapters
from anamnesis.training.checkpoints import COMPLETE, newest_checkpoint
from anamnesis.training.loop import train_stage
from anamnesis.training.objectives import Objective

LORA = {"rank": 2, "alpha": 4, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}
SETTINGS = {
    "epochs": 2,
    "batch_size": 2,
    "gradient_accumulation": 1,
    "learning_rate": 0.01,
    "optimizer": "adamw_torch",
    "scheduler": "linear",
    "weight_decay": 0.01,
    "warmup_ratio": 0.0,
    "checkpoint_steps": 2,
}


def task(n: int = 8) -> pd.DataFrame:
    return pd.DataFrame({
        "split": "train", "example_id": [f"train-{i}" for i in range(n)], "instruction": "Say the opposite.",
        "input": [f"word {i}" for i in range(n)], "target": [f"other {i % 3}" for i in range(n)],
    })  # fmt: skip


def examples(n: int = 8):
    return build_examples(task(n), tiny_models.tokenizer(), Template(), 512)[0]


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_examples_are_the_zero_shot_prompt_and_the_answer_with_its_end():
    tokenizer = tiny_models.tokenizer()
    first = examples()[0]
    assert tokenizer.decode(first.prompt) == "Say the opposite.\n\nInput: word 0\nOutput:"
    assert tokenizer.decode(first.answer[:-1]) == " other 0"
    assert first.answer[-1] == tokenizer.eos_token_id
    tree = first.tree()
    assert [*tree.prefix, *tree.trunk, *tree.branches[0]] == [*first.prompt, *first.answer[:-1]]
    assert tokenizer.decode(tree.prefix) == "Say the opposite.\n\nInput: word "


def test_every_example_is_trained_on_once_an_epoch_in_a_new_order():
    batches = shuffled_batches(examples(7), 2, 3, generator(0, "order"))
    assert [len(b.examples) for b in batches] == [3, 3, 1, 3, 3, 1]
    first, second = ([e for b in part for e in b.examples] for part in (batches[:3], batches[3:]))
    assert set(first) == set(second) == set(examples(7))
    assert first != second


def test_spreading_keeps_the_order_and_is_even():
    parts = spread(range(7), 3)
    assert [n for part in parts for n in part] == list(range(7))
    assert sorted(map(len, parts)) == [2, 2, 3]
    assert spread([], 2) == [(), ()]


def test_a_long_input_loses_its_beginning_but_not_the_instruction_or_the_answer_slot():
    tokenizer, rows = tiny_models.tokenizer(), task(1)
    rows["input"] = "abc " * 60 + "the end"
    (example,), cut = build_examples(rows, tokenizer, Template(), 80)
    text = tokenizer.decode(example.prompt)
    assert cut == 1
    assert 76 <= len(example.prompt) <= 80
    assert text.startswith("Say the opposite.\n\nInput:")
    assert text.endswith("the end\nOutput:")


def test_an_instruction_that_fills_the_room_is_refused():
    with pytest.raises(UserError, match="max_input_tokens is 10"):
        build_examples(task(1), tiny_models.tokenizer(), Template(), 10)


def test_a_task_without_training_rows_is_refused():
    with pytest.raises(UserError, match="no training examples"):
        build_examples(task(2).assign(split="test"), tiny_models.tokenizer(), Template(), 64)


def test_unknown_target_modules_are_named_with_those_there_are():
    with pytest.raises(UserError, match=r"q_projj.*choose from .*q_proj"):
        add_lora(tiny_models.build("llama"), {**LORA, "target_modules": ["q_projj"]}, 0)


def run_stage(model, folder, seed=3, objective=None, **changes):
    settings = {**SETTINGS, **changes}
    batches = shuffled_batches(
        examples(), settings["epochs"], settings["batch_size"], generator(seed, "order")
    )
    return train_stage(PrefixEngine(model), batches, objective or Objective(), settings, seed, folder)


def train(tmp_path, name="run", objective=None, **changes):
    model = add_lora(tiny_models.build("llama"), LORA, 3)
    return model, run_stage(model, tmp_path / name, 3, objective, **changes)


def test_training_lowers_the_loss_and_moves_only_the_adapter(tmp_path):
    model, log = train(tmp_path, epochs=6)
    assert len(log) == 6 * 4
    assert log.loss.iloc[-4:].mean() < log.loss.iloc[:4].mean() - 0.3
    untouched = tiny_models.build("llama").state_dict()
    merged = model.get_base_model().state_dict()
    for name, value in untouched.items():
        same = name if name in merged else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(value, merged[same])


class Killed(Exception):
    pass


class DiesOnce(Objective):
    """The answer loss, interrupted at a step as a kill would."""

    def __init__(self, step: int):
        super().__init__()
        self.step, self.calls = step, 0

    def __call__(self, engine, batch, progress):
        if self.calls == self.step:
            raise Killed
        self.calls += 1
        return super().__call__(engine, batch, progress)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_killed_stage_continues_and_ends_with_the_same_bits(tmp_path, step):
    """With dropout, so that the random state matters; the kill falls before, between and after
    checkpoints.
    """
    whole, whole_log = train(tmp_path, "whole")
    with pytest.raises(Killed):
        train(tmp_path, "killed", DiesOnce(step))
    resumed, log = train(tmp_path, "killed")
    pd.testing.assert_frame_equal(log, whole_log)
    for (name, a), b in zip(weights(whole).items(), weights(resumed).values(), strict=True):
        assert torch.equal(a, b), name


class Slow(Objective):
    """The answer loss, in steps long enough to be told to end in one; the first says that training runs."""

    def __call__(self, engine, batch, progress):
        Path("training").touch()
        time.sleep(0.2)
        return super().__call__(engine, batch, progress)


TOLD = """
import sys
from pathlib import Path
import test_training
from anamnesis.core.errors import UserError
try:
    test_training.train(Path.cwd(), "told", test_training.Slow(), checkpoint_steps=1000)
except UserError as error:
    sys.exit(str(error))
"""


def test_a_stage_told_to_end_leaves_a_checkpoint_to_continue_from(tmp_path):
    """As Slurm does before it takes a node away: SIGTERM, and SIGKILL some time later."""
    path = os.pathsep.join([*map(str, (Path(__file__).parent, Path(tiny_models.__file__).parent)), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", TOLD],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "training").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    (done, planned) = map(
        int, re.findall(r"told to end \(SIGTERM\) and did after step (\d+) of (\d+)", said)[0]
    )
    assert done < planned
    assert newest_checkpoint(tmp_path / "told").name == f"checkpoint-{done}"
    resumed, log = train(tmp_path, "told")
    whole, whole_log = train(tmp_path, "whole")
    pd.testing.assert_frame_equal(log, whole_log)
    for (name, a), b in zip(weights(whole).items(), weights(resumed).values(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_cut_short_is_not_resumed_from(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, "run", DiesOnce(6))
    newest = newest_checkpoint(tmp_path / "run")
    assert newest.name == "checkpoint-6"
    (newest / COMPLETE).unlink()
    (newest / "optimizer.pt").write_bytes(b"half")
    assert newest_checkpoint(tmp_path / "run").name == "checkpoint-4"
    _, log = train(tmp_path, "run")
    pd.testing.assert_frame_equal(log, train(tmp_path, "whole")[1])


def test_a_checkpoint_that_is_not_what_was_written_is_not_resumed_from(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, "run", DiesOnce(6))
    newest = newest_checkpoint(tmp_path / "run")
    content = bytearray((newest / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(content)
    assert newest_checkpoint(tmp_path / "run").name == "checkpoint-4"
    _, log = train(tmp_path, "run")
    pd.testing.assert_frame_equal(log, train(tmp_path, "whole")[1])


class Opens:
    """Pickled, it opens a file when it is read again."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_nothing_in_a_checkpoint_is_run(tmp_path, file):
    """Not even where the digests agree, as they do when somebody wrote the whole folder."""
    with pytest.raises(Killed):
        train(tmp_path, "run", DiesOnce(6))
    newest, marker = newest_checkpoint(tmp_path / "run"), tmp_path / "was run"
    assert not (newest / "training_args.bin").exists()
    torch.save(Opens(marker), newest / file)
    write_sums(newest)
    torch.load(newest / file, weights_only=False)
    marker.unlink()  # it would be run by those who let it
    if file == "training_args.bin":
        train(tmp_path, "run")
    else:
        with pytest.raises(UserError, match=r"checkpoint-6 cannot be continued from \(.*\): delete it"):
            train(tmp_path, "run")
    assert not marker.exists()


def test_seeds_differ_and_repeat(tmp_path):
    first, again = train(tmp_path, "a")[1], train(tmp_path, "b")[1]
    pd.testing.assert_frame_equal(first, again)
    model = add_lora(tiny_models.build("llama"), LORA, 4)
    other = run_stage(model, tmp_path / "c", 4)
    assert not other.loss.equals(first.loss)


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [("torch.optim.SGD", "cosine"), ("adafactor", "torch.optim.lr_scheduler.CosineAnnealingLR")],
)
def test_optimisers_and_schedulers_of_torch_and_transformers(tmp_path, optimizer, scheduler):
    _, log = train(tmp_path, optimizer=optimizer, scheduler=scheduler)
    assert log.learning_rate.iloc[-1] < log.learning_rate.iloc[0]


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("optimizer", "adamw_trch", "adamw_torch"),
        ("scheduler", "cosin", "cosine"),
        ("optimizer", "os.system", "torch.optim"),
        ("optimizer", "torch.optim.SGDD", "does not exist"),
        ("optimizer", "transformers_own.Own", "torch.optim"),
        ("optimizer", "torch.optim.lr_scheduler.LinearLR", "is no Optimizer"),
        ("optimizer", "transformers.set_seed", "is no Optimizer"),
        ("scheduler", "torch.optim.SGD", "is no LRScheduler"),
    ],
)
def test_unknown_optimisers_and_schedulers_are_refused(tmp_path, key, value, near):
    with pytest.raises(UserError, match=near):
        train(tmp_path, **{key: value})


def test_saved_adapters_load_with_peft_in_the_order_of_their_note(tmp_path):
    """Two stages, each trained on the merged earlier ones: PEFT alone gives the logits of the trained
    model.
    """
    snapshot = tiny_models.save_snapshot(tmp_path / "model")
    adapters, tokens = [], torch.tensor(tiny_models.token_ids(7, 12))
    for stage in (1, 2):
        model, _ = load_model(snapshot, device="cpu")
        tuned = add_lora(merge_adapters(model, adapters), {**LORA, "dropout": 0.0}, stage)
        run_stage(tuned, tmp_path / f"checkpoints{stage}", stage)
        folder = tmp_path / f"stage{stage}"
        save_adapter(tuned, folder, "tiny", [str(a) for a in adapters])
        adapters.append(folder)
        expected = tuned.eval()(tokens).logits
    loaded, _ = load_model(snapshot, device="cpu")
    for adapter in adapters:
        loaded = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    torch.testing.assert_close(loaded(tokens).logits, expected, atol=1e-5, rtol=1e-5)
    note = (adapters[1] / "README.md").read_text()
    assert note.index(str(adapters[0])) < note.index(str(adapters[1]))
    assert json.loads((adapters[1] / "adapter_config.json").read_text())["r"] == LORA["rank"]
    assert all(torch.isfinite(t).all() for t in load_file(adapters[1] / "adapter_model.safetensors").values())
