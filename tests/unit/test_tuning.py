"""The instruction-tuned start: what it learns from, what comes of it, and that a kill loses nothing."""

import shutil

import pandas as pd
import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

import reference
import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.line_end import LineEnd
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import linear_layers
from anamnesis.models.loading import load_model
from anamnesis.training.objectives import Objective
from anamnesis.training.tuning import (
    TuningTask,
    save_tuned,
    tune,
    tuning_batches,
    tuning_examples,
    zero_shot_accuracy,
)

LORA = {"rank": 3, "alpha": 6.0, "dropout": 0.0, "target_modules": None}
SETTINGS = {"learning_rate": 0.01, "lora": LORA}
HOW = {"batch_tokens": 512, "seed": 0, "max_input_tokens": None, "scorer": "sum"}
INSIDE = {  # leaf names of the linear layers in a decoder layer
    "llama": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
    "phi3": "down_proj gate_up_proj o_proj qkv_proj",
    "gpt2": "c_attn c_fc c_proj",
    "neox": "dense dense_4h_to_h dense_h_to_4h query_key_value",
    "gemma3": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
}


def task(name: str, word: str, splits=("train",) * 5 + ("validation",) * 2 + ("test",) * 2) -> TuningTask:
    frame = pd.DataFrame({
        "split": splits, "example_id": [f"{s}-{i}" for i, s in enumerate(splits)],
        "instruction": f"Say {name}.", "input": [f"{word} {i} of {name}" for i in range(len(splits))],
        "target": [f"{name} {i % 3}" for i in range(len(splits))], "choices": None, "label": None,
        "knowledge_prompt": None, "knowledge_target": None, "knowledge_choices": None,
    })  # fmt: skip
    return TuningTask(name, frame, 4)


TASKS = [task("opposites", "warm"), task("plurals", "one")]


def examples(count=4):
    return tuning_examples(TASKS, tiny_models.tokenizer(), Template(), count, 512)


def batches(seed=0):
    return tuning_batches(examples(), 2, 3, seed)


@pytest.fixture
def tuned(tmp_path):
    """``tuned(name)``: (the trained model with its adapter, log) of an architecture."""

    def make(name="llama", folder="checkpoints"):
        return tune(tiny_models.build(name), batches(), SETTINGS, 2, 0, tmp_path / folder)

    return make


def test_only_the_first_training_examples_are_learnt_from():
    found = examples()
    assert {name: len(of_task) for name, of_task in found.items()} == {"opposites": 4, "plurals": 4}
    texts = {tiny_models.tokenizer().decode(e.prompt) for of_task in found.values() for e in of_task}
    inputs = {
        f"{word} {i} of {name}"
        for name, word in (("opposites", "warm"), ("plurals", "one"))
        for i in range(4)
    }
    assert texts == {f"Say {text.rsplit(' ', 1)[1]}.\n\nInput: {text}\nOutput:" for text in inputs}


def test_every_example_is_learnt_once_per_epoch_with_the_tasks_mixed():
    found, made = examples(), batches()
    everything = [e for of_task in found.values() for e in of_task]
    assert [len(b.examples) for b in made] == [3, 3, 2] * 2
    for epoch in (made[:3], made[3:]):
        learnt = [e for batch in epoch for e in batch.examples]
        assert sorted(map(hash, learnt)) == sorted(map(hash, everything))
        assert any({e in found["plurals"] for e in batch.examples} == {True, False} for batch in epoch)
    assert batches() == made
    assert batches(seed=1) != made


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "gemma2"])
def test_the_loss_of_a_mixed_batch_is_that_of_plain_forward_passes(name):
    model = tiny_models.shared(name)
    batch = batches()[0]
    answers = [
        (reference.logits(model, [*e.prompt, *e.answer])[len(e.prompt) - 1 : -1], torch.tensor(e.answer))
        for e in batch.examples
    ]
    with torch.no_grad():
        plain = cross_entropy(
            torch.cat([logits for logits, _ in answers]), torch.cat([y for _, y in answers])
        )
        assert len({e.prefix_length for e in batch.examples}) > 1  # two tasks share different beginnings
        assert Objective()(PrefixEngine(model), batch, 0.0).total.item() == pytest.approx(
            plain.item(), abs=1e-5
        )


@pytest.mark.parametrize("name", INSIDE)
def test_all_linear_layers_of_the_decoder_are_adapted_and_no_others(name, tuned):
    model = tiny_models.build(name)
    blocks = [m for n, m in model.named_modules() if m in reference.blocks(model)]
    names = linear_layers(blocks, model)
    assert " ".join(sorted({n.rsplit(".", 1)[1] for n in names})) == INSIDE[name]
    model, log = tuned(name)
    adapted = {
        n.split("base_model.model.")[1].split(".lora_A")[0]
        for n, p in model.named_parameters()
        if "lora_A" in n
    }
    assert adapted == set(names)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]


def test_the_vision_tower_of_a_multimodal_model_is_not_adapted():
    """Its layers have the names of the decoder's; what sees pictures stays as it is, and so does the head."""
    text = tiny_models.build("llama")
    model = torch.nn.ModuleDict({"vision": tiny_models.build("llama", 1).model, "language": text})
    names = linear_layers(reference.blocks(text), model)
    assert {n.rsplit(".", 1)[1] for n in names} == set(INSIDE["llama"].split())
    assert len(names) == len(set(names)) == 7 * len(reference.blocks(text))
    assert all(n.startswith("language.model.layers.") for n in names)
    everywhere = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {n.split(".")[0] for n in everywhere - set(names)} == {"vision", "language"}  # there are others


def test_the_snapshot_is_the_model_with_the_adapter_and_loads_without_this_project(tmp_path, tuned):
    model, _ = tuned()
    base = tiny_models.save_snapshot(tmp_path / "base")
    ids = torch.tensor(tiny_models.token_ids(3, 17))
    with torch.no_grad():
        trained = model.eval()(ids).logits
        merged = save_tuned(
            model, tiny_models.tokenizer(), "base", tmp_path / "adapter", tmp_path / "snapshot"
        )
        loaded, tokenizer = load_model(tmp_path / "snapshot", device="cpu")
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "snapshot")(ids).logits
        apart = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
        start = AutoModelForCausalLM.from_pretrained(base)(ids).logits
        for logits in (merged(ids).logits, loaded(ids).logits, plain, apart(ids).logits):
            assert (logits - trained).abs().max() <= 1e-4 * trained.abs().max()
        assert (start - trained).abs().max() > 0.1  # something was learnt
    assert tokenizer("hot").input_ids == tiny_models.tokenizer()("hot").input_ids
    assert "Base model: base." in (tmp_path / "adapter" / "README.md").read_text()


def test_a_tuning_that_was_killed_ends_with_the_same_weights(tmp_path, tuned):
    whole, log = tuned()
    (tmp_path / "after").mkdir()
    shutil.copytree(tmp_path / "checkpoints" / "checkpoint-4", tmp_path / "after" / "checkpoint-4")
    again, same = tuned(folder="after")
    pd.testing.assert_frame_equal(log, same)
    for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_accuracy_before_and_after_is_that_of_validation_examples(monkeypatch):
    asked = []

    def evaluate(evaluator, sets, progress):
        asked.extend(sets)
        return pd.DataFrame({"set": ["opposites", "opposites"], "score": [1.0, 0.5]})

    monkeypatch.setattr("anamnesis.training.tuning.Evaluator.evaluate", evaluate)
    none = TuningTask("none", TASKS[0].frame[TASKS[0].frame.split == "train"], 4)
    model = tiny_models.shared("llama")
    found = zero_shot_accuracy(model, tiny_models.tokenizer(), Template(), [*TASKS, none], HOW)
    assert found == {"opposites": 0.75}
    assert [s.name for s in asked] == ["opposites", "plurals"]  # nothing to ask of the third
    for s in asked:
        assert list(s.frame.example_id[s.frame.split == "test"]) == ["validation-5", "validation-6"]


def test_accuracy_is_that_of_greedy_decoding_by_plain_forward_passes():
    """Two of the three answers are what the model writes itself, token by token; the third is not."""
    model, tokenizer = tiny_models.shared("llama"), tiny_models.tokenizer()
    ends = LineEnd(tokenizer)

    def written(prompt: str, count: int) -> str:
        return ends.text(reference.greedy(model, tokenizer(prompt).input_ids, count, ends))

    splits = ("train",) * 3 + ("validation",) * 3 + ("test",) * 2
    asked, expected = [], {}
    for name, word, right in (("opposites", "warm", 2), ("plurals", "one", 1)):
        made = task(name, word, splits)
        frame = made.frame
        answers = [
            written(f"{row.instruction}\n\nInput: {row.input}\nOutput:", made.max_new_tokens)
            for row in frame[frame.split == "validation"].itertuples()
        ]
        assert all(answers)
        told = [*answers[:right], *(f"{answer} not" for answer in answers[right:])]
        frame.loc[frame.split == "validation", "target"] = told
        frame.loc[frame.split == "test", "target"] = answers[0]  # never asked
        asked.append(made)
        expected[name] = pytest.approx(right / 3)
    assert zero_shot_accuracy(model, tokenizer, Template(), asked, HOW) == expected


@pytest.mark.parametrize("splits", [("test",) * 4, ("validation", "test")])
def test_a_task_without_training_examples_is_refused(splits):
    with pytest.raises(
        UserError, match=r"tuning\.tasks .*names rhymes, which has no training examples: name"
    ):
        tuning_examples([*TASKS, task("rhymes", "cat", splits)], tiny_models.tokenizer(), Template(), 4, 512)
