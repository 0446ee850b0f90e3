"""Costs against what really happens: counted operations and weights of real models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task
from anamnesis.data.prompts import Template
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import build_examples
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.estimate import work
from anamnesis.estimate.lengths import by_tokenizer, lengths_of
from anamnesis.estimate.shape import Shape, known_shape, model_shape, shape_from, shape_of
from anamnesis.evaluation.records import EvaluationSet, Evaluator
from anamnesis.models.adapters import add_lora
from anamnesis.models.loading import weight_sizes
from anamnesis.training.objectives import Objective
from anamnesis.training.tuning import TuningTask, tuning_batches, tuning_examples
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.after_training import accuracy_with_vector
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.icl import CLEAN, SHUFFLED, PromptPlan, build_prompts, encode_questions
from anamnesis.vectors.interventions import intervention_table, split_questions

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _operations import operations

SIZES = {"train": 16, "validation": 8, "test": 6}
VECTORS = {"shots": 3, "activation_prompts": 8, "effect_prompts": 4, "target": "full"}
LORA = {"rank": 1, "alpha": 1, "dropout": 0.0, "target_modules": ["q_proj"]}
ROOT = Path(__file__).parents[2]


# --- sizes of models


@pytest.mark.parametrize("name", [*tiny_models.ARCHITECTURES, "deepseek"])
def test_weights_are_counted_as_the_model_and_its_snapshot_have_them(name, tmp_path):
    model = tiny_models.shared(name)
    shape = model_shape(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.layers == model.config.num_hidden_layers
    model.save_pretrained(tmp_path)  # experts have other names there
    saved = shape_of(tmp_path, "bfloat16")
    assert saved == shape
    inside = ("q_proj", "v_proj", "c_attn", "query_key_value")  # of experts only snapshots know linear layers
    assert [saved.linear.get(name) for name in inside] == [shape.linear.get(name) for name in inside]
    assert saved.bytes == 2 * shape.parameters


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_operations_of_a_token_are_those_of_torchs_counter(name):
    """One token: it sees itself alone, and the experts that compute it are those that run."""
    model = tiny_models.build(name)
    model.set_experts_implementation("eager")  # torch's counter leaves grouped products out
    real = operations(lambda: model(torch.tensor([[7]]), use_cache=False))
    assert work.Work(1, 1, 1).flops(model_shape(model)) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("smollm2-135m", 0.1345), ("llama-2-7b", 6.738), ("llama-3.1-8b", 8.03), ("mistral-7b", 7.24),
     ("llama-3.1-70b", 70.55), ("llama-4-scout", 108), ("llama-4-maverick", 400)],
)  # fmt: skip
def test_known_models_have_the_size_their_makers_state(name, billions):
    assert known_shape(name, "bfloat16").parameters / 1e9 == pytest.approx(billions, rel=0.01)


def empty(family: str, **config) -> Shape:
    with torch.device("meta"):
        return model_shape(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config)))


def test_a_mixture_runs_only_the_chosen_experts():
    mixtral = empty("mixtral")
    assert mixtral.parameters / 1e9 == pytest.approx(46.7, rel=0.01)
    assert (mixtral.active + 2 * mixtral.head) / 1e9 == pytest.approx(12.9, rel=0.01)


MIXTURE = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False,
}  # fmt: skip
# family: its own settings, layers with experts, experts of each that do not run, width of an expert
MIXTURES = {
    "mixtral": ({"intermediate_size": 48, "num_local_experts": 4}, 5, 2, 48),
    "qwen3_moe": (
        {"intermediate_size": 80, "moe_intermediate_size": 24, "num_experts": 6, "mlp_only_layers": [1]},
        4, 4, 24,
    ),
    "llama4_text": (
        {"intermediate_size": 48, "intermediate_size_mlp": 80, "num_local_experts": 4,
         "interleave_moe_layer_step": 2},
        2, 0, 48,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", sorted(MIXTURES))
def test_mixtures_are_counted_as_they_are_built_and_as_they_run(family):
    settings, mixtures, idle, width = MIXTURES[family]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **MIXTURE, **settings))
    shape = model_shape(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    matrices = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert shape.active == matrices - 2 * shape.head - mixtures * idle * 3 * shape.hidden * width


def test_work_follows_the_experts_that_are_computed():
    """transformers' Llama 4 computes all of them, other mixtures those that are chosen."""
    mixture = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": 16, "intermediate_size": 32, "vocab_size": 100, "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    few, all_of_them = (
        empty(kind, **mixture, **more)
        for kind, more in (("mixtral", {}), ("llama4_text", {"interleave_moe_layer_step": 1}))
    )
    expert = 2 * 3 * 64 * 32  # weights of one expert in both layers
    assert all_of_them.active - few.active == (6 + 1) * expert  # and the shared one
    assert all_of_them.parameters - few.parameters == expert


def test_a_missing_snapshot_and_a_strange_configuration_are_said(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        shape_of(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")  # Snakemake waits for the file of this name
    with pytest.raises(UserError, match="no hidden_size, num_attention_heads"):
        shape_from({"vocab_size": 10}, {})
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10}
    with pytest.raises(UserError, match="no numbered layers"):
        shape_from(sizes, {"embed_tokens.weight": [10, 8]})
    with pytest.raises(UserError, match=r"unknown model 'llama-2-7bb'.*llama-2-7b"):
        known_shape("llama-2-7bb", "float32")


def test_a_snapshot_is_sized_without_torch_and_a_damaged_one_is_refused(tmp_path):
    tiny_models.save_snapshot(tmp_path)
    code = (
        "import sys; from anamnesis.estimate.demands import shape_of\n"
        "print(shape_of(sys.argv[1]).parameters)\n"
        "assert not {'torch', 'transformers', 'pandas'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    asked = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True)
    assert asked.stdout.strip() == str(model_shape(tiny_models.shared("llama")).parameters), asked.stderr
    (tmp_path / "model.safetensors").write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"snapshot .* cannot be read \(.*\): delete it and run again"):
        weight_sizes(tmp_path)


# --- operations, against a counter in torch


@pytest.fixture(scope="module")
def engine():
    """A model large enough for matrix products to be nearly all there is."""
    config = AutoConfig.for_model(
        "llama", vocab_size=tiny_models.VOCABULARY, hidden_size=96, intermediate_size=2048,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)  # some weights end their answers early, which is less than what is counted
        return PrefixEngine(AutoModelForCausalLM.from_config(config).eval())


@pytest.fixture(scope="module", params=["capital_choice", "antonym"])
def task(request):
    return request.param, builtin_task(request.param, 0, SIZES)


@pytest.fixture
def lengths(task):
    return lengths_of(task[1], Template(), by_tokenizer(tiny_models.tokenizer()))


def shape_in(engine) -> Shape:
    return model_shape(engine.model)


def questions_of(task, kind):
    plan = PromptPlan(VECTORS["shots"], VECTORS["activation_prompts"], VECTORS["effect_prompts"])
    prompts = build_prompts(task[1], task[0], plan, Template(), 0)
    return encode_questions(tiny_models.tokenizer(), prompts[prompts.kind == kind])


def test_operations_of_activations_and_of_the_sweep(engine, task, lengths):
    shape = shape_in(engine)
    clean, shuffled = (questions_of(task, kind) for kind in (CLEAN, SHUFFLED))
    real = operations(lambda: mean_head_activations(engine, clean, 4096))
    assert work.average_activations(lengths, VECTORS).flops(shape) == pytest.approx(real, rel=0.2)
    mean = torch.zeros(shape.layers, shape.heads, shape.head_dim)
    ids = [str(i) for i in range(len(shuffled))]
    real = operations(lambda: causal_effects(engine, shuffled, ids, mean, 4096))
    assert work.sweep_heads(lengths, VECTORS, shape).flops(shape) == pytest.approx(real, rel=0.25)


def test_operations_of_interventions(engine, task, lengths):
    shape, settings = shape_in(engine), {"layers": None, "examples": 6, "shots": 3}
    words, theta = tiny_models.tokenizer(), torch.zeros(shape.hidden)

    def intervened():
        return intervention_table(
            engine, words, task[1], task[0], theta, Template(), settings, 0, batch_tokens=4096
        )

    real = operations(intervened)
    assert work.intervene(lengths, settings, shape).flops(shape) == pytest.approx(real, rel=0.25)


def test_operations_of_vectors_after_training(engine, task, lengths):
    shape, settings = shape_in(engine), {"examples": 6, "shots": 3}
    asked = split_questions(
        tiny_models.tokenizer(), task[1], task[0], Template(), settings, seed=0, split="test"
    )
    real = operations(
        lambda: accuracy_with_vector(engine, asked, torch.zeros(shape.hidden), shape.layers // 2, 4096)
    )
    assert work.recover(lengths, settings).flops(shape) == pytest.approx(real, rel=0.25)


def test_operations_of_an_evaluation(engine, task, lengths):
    evaluator = Evaluator(
        engine, tiny_models.tokenizer(), Template(), 3, ("instruction", "knowledge"), 4096, seed=0
    )
    longest = round(lengths.answer)
    real = operations(lambda: evaluator.evaluate([EvaluationSet(task[0], "held_out", task[1], longest)]))
    settings = {
        "shots": 3,
        "forms": ["instruction", "knowledge"],
        "few_shot": "all",
        "demonstration_draws": 1,
    }
    assert work.evaluate([lengths], [], settings).flops(shape_in(engine)) == pytest.approx(real, rel=0.25)


def test_operations_of_training(engine, task, lengths):
    shape = shape_in(engine)
    model = AutoModelForCausalLM.from_config(engine.model.config)
    tuned = PrefixEngine(add_lora(model, LORA, 0).train())
    examples, _ = build_examples(task[1], tiny_models.tokenizer(), Template(), 512)

    def epoch() -> None:
        for start in range(0, len(examples), 8):
            Objective()(tuned, Batch(tuple(examples[start : start + 8])), 0.0).total.backward()

    expected = work.train(work.Stage(lengths, epochs=1, batch_size=8), {}, None).flops(shape)
    assert expected == pytest.approx(operations(epoch), rel=0.2)


@pytest.mark.parametrize("examples", [12, 100])
def test_operations_of_the_tuning(engine, examples):
    """Two tasks mixed in every batch, of one of which there are fewer examples than may be taken."""
    shape, words = shape_in(engine), tiny_models.tokenizer()
    sizes = {"capital_choice": SIZES, "antonym": {**SIZES, "train": 24}}
    frames = {name: builtin_task(name, 0, size) for name, size in sizes.items()}
    tuned = add_lora(AutoModelForCausalLM.from_config(engine.model.config), LORA, 0).train()
    tasks = [TuningTask(name, frame, 4) for name, frame in frames.items()]
    found = tuning_examples(tasks, words, Template(), examples, 512)
    assert {name: len(e) for name, e in found.items()} == {
        name: min(examples, size["train"]) for name, size in sizes.items()
    }
    batches, learner = tuning_batches(found, 2, 8, 0), PrefixEngine(tuned)
    real = operations(lambda: [Objective()(learner, batch, 0.0).total.backward() for batch in batches])
    lengths = [lengths_of(frame, Template(), by_tokenizer(words)) for frame in frames.values()]
    expected = work.tune(lengths, {"examples": examples, "epochs": 2, "batch_size": 8}, validation=0)
    assert expected.flops(shape) == pytest.approx(real, rel=0.2)
