"""Studies of a model in memory: the model is left as it was; several tasks, chats, other models, disks."""

from __future__ import annotations

import shutil
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import reference
import tiny_models
from anamnesis.core.artifacts import read_tensors
from anamnesis.core.errors import UserError
from anamnesis.study import Effects, compare, load_study, measuring, save_study, study_tasks
from anamnesis.vectors.icl import encode_questions
from tiny_models import build, shared, tokenizer

PAIRS = [(f"thing {i}", ("cold", "hot")[i % 2]) for i in range(8)]
OTHER = [(f"word {i}", ("big", "small")[i % 2]) for i in range(9)]
SMALL = {"shots": 2, "heads": 2, "activation_prompts": 3, "effect_prompts": 3}
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture(scope="module")
def study():
    return study_tasks(
        shared("llama"), tokenizer(), {"heat": PAIRS, "size": OTHER}, {"heat": "Say it."}, **SMALL
    )


@pytest.fixture
def tuned():
    """The model with a LoRA adapter that changes it."""
    found = get_peft_model(
        build("llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj", "o_proj"])
    )
    for name, weight in found.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(2))
    return found.eval()


def modes(model) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("fails", [False, True])
def test_modules_are_in_the_mode_they_were_in_even_after_an_error(monkeypatch, fails):
    model = build("llama").train()
    model.model.layers[1].eval()  # as a caller may have who trains the rest
    before, seen = modes(model), []
    assert len(set(before.values())) == 2
    effects = measuring.causal_effects

    def watched(engine, *args, **kwargs):
        seen.append(set(modes(model).values()))
        if fails:
            raise RuntimeError("out of memory")
        return effects(engine, *args, **kwargs)

    monkeypatch.setattr(measuring, "causal_effects", watched)
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            study_tasks(model, tokenizer(), PAIRS, **SMALL)
    else:
        assert study_tasks(model, tokenizer(), PAIRS, **SMALL).vector.shape == (48,)
    assert seen == [{False}]
    assert modes(model) == before


# ---------------------------------------------------------------- effects


def test_effects_are_those_of_one_forward_pass_for_each_head(study):
    """Plain reference for the array, its mean and its interval."""
    effects, slow = study.effects, []
    for row in effects.prompts.itertuples():
        table = study.prompts[row.task].query("prompt_id == @row.prompt_id")
        questions, mean = encode_questions(tokenizer(), table), study.activations[row.task].mean
        plain = reference.causal_effects(shared("llama"), questions, [row.prompt_id], mean, "full")
        slow.append((np.exp(plain.log_patched) - np.exp(plain.log_clean)).to_numpy().reshape(3, 4))
    assert effects.axes == ("prompt", "layer", "head")
    assert effects.values.shape == (6, 3, 4)
    np.testing.assert_allclose(effects.values, slow, atol=1e-6)
    assert np.ptp(effects.values) > 1e-4
    by_task = [effects.values[effects.prompts.task == task] for task in ("heat", "size")]
    assert effects.mean().index.name == "layer"
    assert effects.mean().columns.name == "head"
    np.testing.assert_allclose(effects.mean(), np.mean([x.mean(0) for x in by_task], 0))
    np.testing.assert_allclose(effects.of("size").mean(), by_task[1].mean(0))
    low, high = effects.interval()
    error = np.sqrt(sum(x.var(0, ddof=1) / 3 for x in by_task)) / 2
    np.testing.assert_allclose(high - low, 2 * 2.7764451 * error)  # Student's t with 4 degrees of freedom
    np.testing.assert_allclose((high + low) / 2, effects.mean())
    assert effects.top(3).effect.tolist() == sorted(effects.mean().to_numpy().ravel())[::-1][:3]
    with pytest.raises(UserError, match="unknown task 'hea': did you mean 'heat'"):
        effects.of("hea")


def test_log_effects_are_on_their_own_scale(study):
    logs = Effects(study.tables, "log_probability")
    table = study.tables["heat"]
    np.testing.assert_allclose(
        logs.of("heat").values.ravel(), np.log(table.p_patched) - np.log(table.p_clean), atol=1e-6
    )
    assert not np.allclose(logs.values, study.effects.values)


# ---------------------------------------------------------------- tasks


def test_tasks_share_heads_and_have_vectors_of_their_own(study):
    geometry = study.engine.geometry
    chosen = [tuple(place) for place in study.effects.top(2)[["layer", "head"]].to_numpy()]
    assert study.heads[study.heads.selected][["layer", "head"]].to_numpy().tolist() == [
        list(p) for p in chosen
    ]
    for task, vector in study.vectors.items():
        mean = study.activations[task].mean
        expected = sum(geometry.output_weight(layer)[head].T @ mean[layer, head] for layer, head in chosen)
        torch.testing.assert_close(vector, expected)
    assert not torch.allclose(study.vectors["heat"], study.vectors["size"])
    assert study.prompts["heat"].text.str.startswith("Say it.").all()
    assert not study.prompts["size"].text.str.contains("Say it.").any()


def test_heads_may_be_given(study):
    found = study_tasks(shared("llama"), tokenizer(), PAIRS, **SMALL | {"heads": [(2, 3), (0, 1)]})
    assert set_of_heads(found) == {(2, 3), (0, 1)}
    with pytest.raises(UserError, match="layer 3 does not exist"):
        study_tasks(shared("llama"), tokenizer(), PAIRS, **SMALL | {"heads": [(3, 0)]})


def test_one_task_is_studied_as_among_others():
    alone = study_tasks(shared("llama"), tokenizer(), {"size": OTHER}, **SMALL)
    both = study_tasks(shared("llama"), tokenizer(), {"heat": PAIRS, "size": OTHER}, **SMALL)
    pd.testing.assert_frame_equal(alone.tables["size"], both.tables["size"])


def test_a_task_has_to_be_named_where_there_are_several(study):
    with pytest.raises(UserError, match="the study has 2 tasks: name one of heat, size"):
        study.vector  # noqa: B018
    with pytest.raises(UserError, match="unknown task 'heet'"):
        study.answer("thing 1", task="heet")


def test_an_answer_with_the_vector_is_that_of_a_plain_loop(study):
    model = shared("llama")
    prompt = tokenizer()("Say it.\n\nInput: thing 1\nOutput:").input_ids
    delta = 9.0 * study.vectors["heat"]
    handles = []

    def add(module, args, output):
        output = output.clone()
        output[0, len(prompt) - 1] += delta
        return output

    for layer in (0, 2):
        handles.append(reference.blocks(model)[layer].register_forward_hook(add))
    ids = reference.greedy(model, prompt, 5, lambda ids: ids[-1] == tiny_models.END)
    for handle in handles:
        handle.remove()
    expected = tokenizer().decode(ids, skip_special_tokens=True).strip().split("\n")[0].strip()
    assert study.answer("thing 1", [0, 2], 9.0, "heat", 5) == expected
    assert study.answer("thing 1", task="heat", max_new_tokens=5) != expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": {}}, "tasks is empty"),
        ({"tasks": {"heat": PAIRS[:3]}}, "task 'heat' has 3 pairs, too few for 2 shots: give at least 4"),
        ({"tasks": PAIRS, "instruction": {"heat": "Say it."}}, "unknown task 'heat'"),
        ({"tasks": PAIRS, "chat": True}, "the tokenizer has no chat template"),
        ({"tasks": PAIRS, "heads": 13}, "heads is 13: the model has 12"),
        ({"tasks": PAIRS, "rank_by": "logits"}, "unknown rank_by 'logits'"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        study_tasks(shared("llama"), tokenizer(), **SMALL | arguments)


def test_a_chat_is_studied_through_its_template():
    chatty = deepcopy(tokenizer())
    chatty.chat_template = CHAT
    found = study_tasks(shared("llama"), chatty, PAIRS, "Say it.", chat=True, **SMALL)
    texts = [text.replace("\ufdd0", "") for text in found.prompts["pairs"].text]
    assert all(text.startswith("[user]Say it.\n\nInput: thing") for text in texts)
    assert all(text.endswith("Output:<end>[assistant]") for text in texts)
    plain = study_tasks(shared("llama"), chatty, PAIRS, "Say it.", **SMALL)
    assert not torch.allclose(found.vector, plain.vector)


# ---------------------------------------------------------------- other models


def test_vectors_move_to_a_tuned_model_and_back(study, tuned):
    moved = study.on(tuned)
    assert moved.vectors is study.vectors
    merged = get_merged(tuned)
    assert moved.answer("thing 1", 1, 9.0, "heat") == study.on(merged).answer("thing 1", 1, 9.0, "heat")
    assert moved.answer("thing 1", 1, 9.0, "heat") != study.answer("thing 1", 1, 9.0, "heat")
    own = study.repeat(tuned)
    with tuned.disable_adapter():
        back = own.on(tuned).answer("thing 1", 1, 9.0, "heat")
    assert back == own.on(shared("llama")).answer("thing 1", 1, 9.0, "heat")


def get_merged(tuned):
    return deepcopy(tuned).merge_and_unload()


def test_a_repeated_study_measures_the_same_prompts_in_the_other_model(study, tuned):
    own, kept = study.repeat(tuned), study.repeat(tuned, keep_heads=True)
    anew = study_tasks(tuned, tokenizer(), {"heat": PAIRS, "size": OTHER}, {"heat": "Say it."}, **SMALL)
    pd.testing.assert_frame_equal(own.heads, anew.heads)
    assert set_of_heads(kept) == set_of_heads(study)
    found = compare(study, own)
    assert found.columns.tolist() == ["task", "layer", "head", "cosine", "effect_first", "effect_second"]
    assert len(found) == 2 * 12
    row = found.query("task == 'size' and layer == 1 and head == 2").iloc[0]
    a, b = (x.activations["size"].mean[1, 2].double() for x in (study, own))
    assert row.cosine == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-5)
    assert row.effect_second == pytest.approx(
        own.tables["size"].query("layer == 1 and head == 2").effect.mean()
    )
    assert found.cosine.min() < 0.99
    assert compare(study, study).cosine.min() > 0.9999
    alone = study_tasks(shared("llama"), tokenizer(), PAIRS, **SMALL)
    with pytest.raises(UserError, match="no task in common"):
        compare(study, alone)


def set_of_heads(study) -> set:
    return set(map(tuple, study.heads[study.heads.selected][["layer", "head"]].to_numpy()))


def test_a_model_of_another_shape_is_refused(study):
    with pytest.raises(UserError, match=r"\(3, 4, 12, 48\), this one has \(3, 4, 20, 48\)"):
        study.on(shared("qwen3"))


# ---------------------------------------------------------------- on disk


@pytest.fixture
def folder(study, tmp_path):
    save_study(study, tmp_path / "study")
    return tmp_path / "study"


def test_a_saved_study_is_the_same(study, folder):
    tasks_again = {"heat": PAIRS, "size": OTHER}
    found = load_study(folder, shared("llama"), tokenizer(), tasks_again)
    pd.testing.assert_frame_equal(found.heads, study.heads)
    assert list(found.vectors) == ["heat", "size"]
    for task in tasks_again:
        assert torch.equal(found.vectors[task], study.vectors[task])
        assert torch.equal(found.activations[task].mean, study.activations[task].mean)
        pd.testing.assert_frame_equal(found.tables[task], study.tables[task])
        assert found.answer("thing 1", 1, 9.0, task) == study.answer("thing 1", 1, 9.0, task)
    np.testing.assert_array_equal(found.effects.values, study.effects.values)
    pd.testing.assert_frame_equal(found.repeat(shared("llama")).heads, study.heads)
    assert not [file for file in folder.rglob("*") if file.suffix in (".pt", ".pkl", ".bin")]
    assert read_tensors(folder / "heat/instruction_vector.safetensors").keys() == {"theta"}


def test_what_does_not_fit_is_said_in_one_line(study, folder, tuned, tmp_path):
    def refused(message, model=None, words=None, where=folder, **options):
        with pytest.raises(UserError, match=message):
            load_study(where, model or shared("llama"), words or tokenizer(), **options)

    refused("made with another model than this LlamaForCausalLM", build("llama", seed=1))
    refused("made with another model", tuned)
    assert load_study(folder, tuned, tokenizer(), same_model=False).vectors["heat"].shape == (48,)
    refused("of a model with", shared("qwen3"), same_model=False)
    refused("made from other pairs", tasks={"heat": PAIRS, "size": OTHER[::-1]})
    refused("made from other pairs", tasks=PAIRS)
    other = deepcopy(tokenizer())
    other.add_tokens(["more"])
    refused("another tokenizer", words=other)
    refused("holds no study", where=tmp_path)
    shutil.copy(folder / "heat/causal_effects.parquet", folder / "size/causal_effects.parquet")
    refused(r"is damaged or incomplete \(size/causal_effects.parquet\)")


def test_a_study_belongs_to_the_model_it_was_found_in(study, tuned, tmp_path):
    """Not to the one that it was moved to; what is measured anew belongs to the other."""
    save_study(study.on(tuned), tmp_path / "moved")
    assert (
        load_study(tmp_path / "moved", shared("llama"), tokenizer())
        .vectors["heat"]
        .equal(study.vectors["heat"])
    )
    with pytest.raises(UserError, match="made with another model"):
        load_study(tmp_path / "moved", tuned, tokenizer())
    save_study(study.repeat(tuned), tmp_path / "own")
    assert load_study(tmp_path / "own", tuned, tokenizer()).model != study.model


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    found = study_tasks(shared("llama"), tokenizer(), {"a/b": PAIRS}, **SMALL)
    with pytest.raises(UserError, match="task 'a/b' cannot be saved"):
        save_study(found, tmp_path / "study")
    assert not (tmp_path / "study").exists()
