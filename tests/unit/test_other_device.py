"""A device that is not the CPU, without having one.

Tensors on ``meta`` have shapes and a device but no numbers: a tensor left on the CPU cannot be combined with
them, and nothing can be read from them. So these tests fail where a GPU would stop with an error, and where
it would have to be waited for.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

import tiny_models
from anamnesis.engine.batches import Batch
from anamnesis.engine.branch_rows import BranchRows
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.heads import find_heads
from anamnesis.engine.pack import Pack, Tree
from anamnesis.engine.prefix_engine import PrefixEngine, branch_row_index
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.models.adapters import add_lora
from anamnesis.training.build import build
from anamnesis.training.stage import Stage
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.interventions import intervene
from tiny_models import ARCHITECTURES, token_ids

PREFIX, START, *TRUNKS = token_ids(1, 9, 4, 11, 17, 5)
QUESTIONS = [Question(trunk, token_ids(i, 2, 1)) for i, trunk in enumerate(TRUNKS)]
DEVICE = torch.device("meta")


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """Counts what is read from the device; zeros are read."""
    counted: Counter = Counter()
    for name in ("cpu", "item", "tolist", "__float__"):
        plain = getattr(torch.Tensor, name)

        def read(self, *args, plain=plain, name=name):
            if not self.is_meta:
                return plain(self, *args)
            counted[name] += 1
            return plain(torch.zeros(self.shape, dtype=self.dtype), *args)

        monkeypatch.setattr(torch.Tensor, name, read)
    return counted


@pytest.fixture
def copies(monkeypatch):
    """Lets tensors go from the device to the CPU, as zeros."""
    plain = torch.Tensor.to

    def to(self, *args, **options):
        try:
            return plain(self, *args, **options)
        except NotImplementedError:
            return plain(torch.zeros(self.shape, dtype=self.dtype), *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)


def engine_on_device(name: str) -> PrefixEngine:
    model = tiny_models.build(name)
    geometry = find_heads(model)  # by the numbers of a pass
    if name in ("mixtral", "qwen3_moe"):  # the kernel chosen by default knows only bfloat16 on this device
        model.set_experts_implementation("batched_mm")
    return PrefixEngine(model.to(DEVICE), geometry)


@pytest.mark.parametrize("with_prefix", [False, True], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", [*ARCHITECTURES, "deepseek"])
@torch.no_grad()
def test_packs_run_where_the_model_is(name, with_prefix):
    engine = engine_on_device(name)
    prefix = engine.prefill(PREFIX) if with_prefix else None
    trees = [Tree(trunk, token_ids(3, 3, 1, 6), tuple(START) * (i % 2)) for i, trunk in enumerate(TRUNKS)]
    found = engine.run(Pack(tuple(trees), prefix), [0, 7, 7])
    assert found.device == DEVICE
    assert found.shape == (3, tiny_models.VOCABULARY)


@pytest.mark.parametrize("where", ["heads", "residual"])
@pytest.mark.parametrize(("with_prefix", "m"), [(False, 1), (True, 6)], ids=["bare", "prefix"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_rows_are_born_where_the_model_is(name, with_prefix, m, where):
    engine = engine_on_device(name)
    prefix = engine.prefill(PREFIX) if with_prefix else None
    pack = Pack(tuple(Tree(trunk, [token_ids(3, m)[0]]) for trunk in TRUNKS), prefix)
    branch_rows = BranchRows(2, [0, 2], where, lambda layer, x: x + 1)
    index = branch_row_index(pack, branch_rows)
    assert engine.run(pack, index.flatten(), branch_rows).device == DEVICE


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_sweep_waits_for_the_device_once_a_batch(name, reads):
    engine, batches = engine_on_device(name), []
    shape = (engine.geometry.n_layers, engine.geometry.n_heads, engine.geometry.head_dim)
    frame = causal_effects(engine, QUESTIONS, list("abc"), torch.zeros(shape), 60, progress=batches.append)
    assert len(frame) == 3 * shape[0] * shape[1]
    assert reads == {"cpu": len(batches)}


def test_means_and_interventions_where_the_model_is(reads):
    engine, batches = engine_on_device("llama"), []
    found = mean_head_activations(engine, QUESTIONS, 40, batches.append)
    assert found.mean.device == torch.device("cpu")
    changed, clean = intervene(engine, QUESTIONS, torch.zeros(3, 2, 48), [0, 2], 10**6)
    assert (changed.shape, clean.shape) == ((2, 2, 3), (3,))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_scores_and_answers_where_the_model_is(name, reads):
    engine = engine_on_device(name)
    assert len(score_questions(engine, QUESTIONS, 30)) == 3
    reads.clear()
    (answers,) = generate(engine, [Request(TRUNKS, 4)], lambda ids: False, 30)
    assert [len(answer) for answer in answers] == [4, 4, 4]
    assert set(reads) == {"tolist"}


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_layers_may_lie_on_several_devices(name, reads, copies):
    """The first layers on the CPU, the others on the device, with accelerate's hooks between them."""
    model = tiny_models.build(name)
    geometry = find_heads(model)
    last = [model.get_output_embeddings(), *geometry.blocks[2:]]
    last += [m for n, m in model.named_modules() if n in ("model.norm", "transformer.ln_f")]
    for module in last:
        module.to(DEVICE)
        add_hook_to_module(module, AlignDevicesHook(execution_device=DEVICE))
    engine = PrefixEngine(model, geometry)
    shape = (geometry.n_layers, geometry.n_heads, geometry.head_dim)
    assert len(causal_effects(engine, QUESTIONS, list("abc"), torch.zeros(shape), 60))
    assert mean_head_activations(engine, QUESTIONS, 40).mean.shape == shape
    intervene(engine, QUESTIONS, torch.zeros(3, 2, geometry.hidden_size), [0, 2], 10**6)
    asked = [Question([*PREFIX, *q.context], q.continuations) for q in QUESTIONS]
    for _ in range(2):  # the first pass of an engine is another than those after it
        assert len(score_questions(engine, asked, 30)) == 3
    (answers,) = generate(engine, [Request([q.context for q in asked], 4)], lambda ids: False, 10**6)
    assert [len(answer) for answer in answers] == [4, 4, 4]


@pytest.mark.parametrize("teacher", ["current", "previous"])
def test_training_steps_where_the_model_is(teacher, reads):
    lora = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    model = add_lora(tiny_models.build("llama"), lora, seed=1)
    geometry = find_heads(model)
    engine = PrefixEngine(model.to(DEVICE).train(), geometry)
    examples = with_shared_prefix([((*START, *trunk), tuple(token_ids(9, 3)[0])) for trunk in TRUNKS])
    stage = Stage(engine, None, 1, examples, {}, {}, seed=0, batch_tokens=40)
    kl = {"teacher": teacher, "weight": 0.1}
    additions = {layer: torch.zeros(geometry.n_heads, geometry.head_dim) for layer in (0, 2)}
    guidance = {"kl": kl, "schedule": "linear", "plateau": 0.25, "intervention": True}
    _, objective = build("inclora", stage, guidance, additions)
    objective(engine, Batch(tuple(examples)), 0.3)  # looks at the output head once
    reads.clear()
    objective(engine, Batch(tuple(examples)), 0.3).total.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert {g.device for g in gradients} == {DEVICE}
    assert reads == {"item": 2}  # each part of the loss, for the log
