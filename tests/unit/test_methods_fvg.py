"""Function-vector guided training against a plain reference with one full forward per variant."""

from dataclasses import replace

import pytest
import torch
from test_guidance import (
    additions,
    assert_same,
    at_start,
    batch,
    gradients,
    loss_of,
    move,
    plain_kl,
    plain_logits,
    tuned,
)
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.engine.examples import Example
from anamnesis.engine.heads import find_heads
from anamnesis.engine.pack import Pack
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training import distillation
from anamnesis.training.build import build
from anamnesis.training.distillation import KlSettings
from anamnesis.training.divergence import divergence
from anamnesis.training.stage import Stage

SELECTED = [(2, 1), (0, 3), (1, 0), (2, 0)]
SETTINGS = {
    "consistency": 0.15,
    "kl_last": 0.2,
    "kl_all": 0.03,
    "temperature": 2.0,
    "layer": None,
    "gates": False,
}
LAYER = 1  # nearest to 9/32 of three layers


def theta(model) -> torch.Tensor:
    return 2 * torch.randn(find_heads(model).hidden_size, generator=torch.Generator().manual_seed(5))


def stage_of(model, **changes) -> Stage:
    return Stage(
        PrefixEngine(model),
        None,
        1,
        batch(),
        {**SETTINGS, **changes},
        {"epochs": 1, "batch_size": 8},
        seed=0,
        batch_tokens=40,
        selected=SELECTED,
        theta=theta(model),
    )


def objective_of(model, name="fvg", guidance=None, **changes):
    """What is minimised, made at the start of a stage; the adapter moves on afterwards."""
    guided = (None, None) if guidance is None else (guidance, additions(model))
    _, objective = build(name, stage_of(model, **changes), *guided)
    move(model, seed=3)
    return objective


def plain_heads(model, example: Example) -> torch.Tensor:
    """(len(SELECTED), head_dim) of one ordinary forward over the prompt."""
    geometry, seen = find_heads(model), {}

    def hook_for(layer):
        def hook(module, args):
            seen[layer] = args[0][0, -1].view(geometry.n_heads, -1)

        return hook

    hooks = [p.register_forward_pre_hook(hook_for(layer)) for layer, p in enumerate(geometry.projections)]
    try:
        model(input_ids=torch.tensor([example.prompt]), use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return torch.stack([seen[layer][head] for layer, head in SELECTED])


def taught_logits(model, example: Example, layer: int) -> torch.Tensor:
    """(tokens, vocabulary) of one ordinary forward with theta behind the output projection of ``layer``."""

    geometry, vector = find_heads(model), theta(model)

    def hook(module, args, output):
        output = output.clone()
        output[0, len(example.prompt) - 1] += vector
        return output

    handle = geometry.projections[layer].register_forward_hook(hook)
    try:
        tokens = torch.tensor([[*example.prompt, *example.answer[:-1]]])
        return model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        handle.remove()


def plain_terms(model, settings=SETTINGS, layer=LAYER) -> dict[str, torch.Tensor]:
    """The terms without their weights: heads (len(SELECTED),), kl_last and kl_all."""
    before, kl = at_start(model), KlSettings(temperature=settings["temperature"])
    changes, last, everywhere = [], [], []
    for example in batch():
        with torch.no_grad():
            kept, taught = plain_heads(before, example), taught_logits(before, example, layer)
        changes.append((plain_heads(model, example) - kept).pow(2).mean(-1))
        rows = plain_kl(plain_logits(model, example), taught, kl)
        last.append(rows[len(example.prompt) - 1])
        everywhere.append(rows.sum())
    heads, last, everywhere = (torch.stack(x).mean(0) for x in (changes, last, everywhere))
    return {"heads": heads, "kl_last": last, "kl_all": everywhere}


def plain_answers(model, vectors=None, strength=0.0) -> torch.Tensor:
    rows = [plain_logits(model, e, vectors, strength)[len(e.prompt) - 1 :] for e in batch()]
    return cross_entropy(torch.cat(rows), torch.tensor([t for e in batch() for t in e.answer]))


def weighed(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return 0.15 * terms["heads"].sum() + 0.2 * terms["kl_last"] + 0.03 * terms["kl_all"]


def test_the_vocabulary_is_gone_through_once_for_both_divergences(monkeypatch):
    model, asked = tuned("llama"), []
    objective = objective_of(model)
    monkeypatch.setattr(
        distillation, "divergence", lambda s, *rest: asked.append(len(s)) or divergence(s, *rest)
    )
    loss_of(model, objective, 0.3)
    assert asked == [Pack(tuple(e.tree() for e in batch())).size]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_the_loss_equals_separate_forwards(name):
    model = tuned(name)
    fast = loss_of(model, objective_of(model), 0.3)
    terms = plain_terms(model)
    assert_same(model, fast.total, plain_answers(model) + weighed(terms))
    assert fast.parts["heads"] == pytest.approx(0.15 * terms["heads"].sum().item(), rel=1e-4)
    assert fast.parts["kl_last"] == pytest.approx(0.2 * terms["kl_last"].item(), rel=1e-4)
    assert fast.parts["kl_all"] == pytest.approx(0.03 * terms["kl_all"].item(), rel=1e-4)


def test_the_vector_goes_where_the_configuration_says():
    model = tuned("llama")
    fast = loss_of(model, objective_of(model, layer=2), 0.3)
    assert_same(model, fast.total, plain_answers(model) + weighed(plain_terms(model, layer=2)))
    elsewhere = plain_terms(model)["kl_last"].item()
    assert fast.parts["kl_last"] != pytest.approx(0.2 * elsewhere, rel=0.01)


def test_it_composes_with_guidance():
    """Both sets of terms are those of their own references, although one forward pass serves them all."""
    model = tuned("llama")
    kl = {"weight": 0.5, "teacher": "current", "positions": "output", "temperature": 1.0}
    guidance = {"kl": kl, "schedule": "linear", "plateau": 0.25, "intervention": True}
    fast = loss_of(model, objective_of(model, guidance=guidance), 0.3)
    vectors, guided = additions(model), []
    for example in batch():
        first = len(example.prompt) - 1
        with torch.no_grad():
            taught = plain_logits(model, example, vectors, 1.0)[first:]
        student = plain_logits(model, example)[first:]
        guided.append(plain_kl(student, taught, KlSettings(temperature=1.0)).sum())
    plain = plain_answers(model, vectors, 0.7) + 0.5 * torch.stack(guided).mean()
    assert_same(model, fast.total, plain + weighed(plain_terms(model)))


def test_terms_below_their_gates_do_not_count(monkeypatch):
    """Gates between the reference's own numbers: some heads count and others do not; of the two divergences
    only the one over all positions.
    """
    model = tuned("llama")
    move(model, seed=3)
    terms = {name: value.detach() for name, value in plain_terms(model).items()}
    change = terms["heads"].sort().values
    gate = float(change[1] + change[2]) / 2
    monkeypatch.setattr("anamnesis.training.methods.fvg.method.HEAD_GATE", gate)
    middle = float(terms["kl_last"] + terms["kl_all"]) / 2
    monkeypatch.setattr("anamnesis.training.methods.fvg.method.KL_GATE", middle)
    move(model, seed=2)
    objective = objective_of(model, gates=True)
    terms = plain_terms(model)
    counted = terms["heads"][terms["heads"] > gate]
    assert 0 < len(counted) < len(SELECTED)
    assert terms["kl_last"] < middle < terms["kl_all"]
    plain = plain_answers(model) + 0.15 * counted.sum() + 0.03 * terms["kl_all"]
    assert_same(model, loss_of(model, objective, 0.3).total, plain)


@pytest.mark.parametrize("counts", [True, False])
def test_a_gated_divergence_counts_whole_or_not_at_all(counts, monkeypatch):
    """The gate is on the divergence before its weight, which is 0.2 here."""
    model = tuned("llama")
    move(model, seed=3)
    value = plain_terms(model)["kl_last"].item()
    monkeypatch.setattr("anamnesis.training.methods.fvg.method.KL_GATE", value * (0.9 if counts else 1.1))
    move(model, seed=2)
    objective = objective_of(model, gates=True, consistency=0.0, kl_all=0.0)
    plain = plain_answers(model) + (0.2 * plain_terms(model)["kl_last"] if counts else 0.0)
    assert_same(model, loss_of(model, objective, 0.3).total, plain)


def test_heads_and_predictions_before_the_stage_come_from_one_run():
    """In addition to the prompts and answers, only the last token of each prompt runs without the vector."""
    model, tokens = tuned("llama"), []
    stage = stage_of(model)
    attention = stage.engine.geometry.blocks[0].self_attn
    attention.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
    )
    build("fvg", replace(stage, batch_tokens=1000))
    prefixes = {e.prompt[: e.prefix_length] for e in batch()}
    assert max(tokens) == sum(map(len, prefixes)) + sum(e.tree().size + 1 for e in batch())
    assert sum(t > 1 for t in tokens) == 1  # a single token is run to look at the output head


def test_at_the_start_of_a_stage_the_heads_have_not_changed():
    model = tuned("llama")
    _, objective = build("fvg", stage_of(model, kl_last=0.0, kl_all=0.0))
    loss = loss_of(model, objective, 0.0)
    assert loss.parts["heads"] == pytest.approx(0.0, abs=1e-10)
    assert set(loss.parts) == {"answer", "heads"}
    assert max(g.abs().max() for g in gradients(model, loss.total)) > 0


def test_a_layer_the_model_does_not_have_is_named_in_one_line():
    with pytest.raises(UserError) as raised:
        build("fvg", stage_of(tuned("llama"), layer=3))
    message = str(raised.value)
    assert "\n" not in message
    assert message == "methods.fvg.layer = 3: the model has 3 layers; give one of 0 to 2, or null"


def test_replayed_examples_alone_have_no_terms():
    model = tuned("llama")
    objective = objective_of(model)
    old = [Example(tuple(tiny_models.token_ids(8, 7)[0]), (5, 6), 0, new=False)]
    loss = loss_of(model, objective, 0.3, old)
    assert loss.total.item() == pytest.approx(loss.parts["answer"])
