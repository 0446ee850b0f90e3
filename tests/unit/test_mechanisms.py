"""Mechanisms of forgetting: definitions by their invariances, and against plain gradients."""

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.analyses.mechanisms.columns import EVERY, WHOLE
from anamnesis.analyses.mechanisms.curvature import Hessian, filter_direction, loss_slice, probe_loss
from anamnesis.analyses.mechanisms.disruption import (
    disruption_frame,
    js_divergence,
    output_change,
    routing_frame,
)
from anamnesis.analyses.mechanisms.gradients import grams, interference
from anamnesis.analyses.mechanisms.landscape import base_landscape, only_trainable
from anamnesis.analyses.mechanisms.measure import changes, kept, measure, similarity_frame
from anamnesis.analyses.mechanisms.probes import Probe, draw_probes, observe
from anamnesis.analyses.mechanisms.representation_drift import drift_frame, linear_cka, rotation
from anamnesis.analyses.mechanisms.routing import routers
from anamnesis.analyses.mechanisms.watching import projection_layers
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import Template
from anamnesis.engine.examples import with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj"]
SETTINGS = {"layer": None, "tolerance": 1e-4, "vectors": 2, "radius": 0.5, "points": 3}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_probes(seed=0):
    """Two sets of two probes with two examples each."""
    found = []
    for k, name in enumerate(("first", "second")):
        start = tiny_models.token_ids(seed + k, 5)[0]
        tails = tiny_models.token_ids(seed + 10 + k, 3, 4, 6, 3)
        answers = tiny_models.token_ids(seed + 20 + k, 1, 2, 1, 3)
        pairs = [((*start, *t), tuple(a)) for t, a in zip(tails, answers, strict=True)]
        examples = with_shared_prefix(pairs)
        found += [Probe(name, tuple(examples[i : i + 2])) for i in (0, 2)]
    return found


def plain_loss(model, probe):
    """The mean over a probe's answer tokens, every example in a row of its own."""
    parts = []
    for e in probe.examples:
        ids = torch.tensor([[*e.prompt, *e.answer]])
        logits = model(ids, use_cache=False).logits[0, len(e.prompt) - 1 : -1]
        parts.append(cross_entropy(logits, ids[0, len(e.prompt) :], reduction="sum"))
    return sum(parts) / sum(len(e.answer) for e in probe.examples)


# --- drift


def test_cka_ignores_rotation_scale_and_shift(rng):
    x = rng.standard_normal((40, 12))
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    assert linear_cka(x, 3.7 * x @ turn + rng.standard_normal(12)) == pytest.approx(1.0, abs=1e-9)
    assert linear_cka(x, x @ np.diag(np.arange(1.0, 13))) < 0.999


def test_cka_of_unrelated_states_is_zero_on_average_with_few_examples(rng):
    values = [linear_cka(*rng.standard_normal((2, 10, 200))) for _ in range(200)]
    assert abs(np.mean(values)) < 0.03
    x, y = rng.standard_normal((2, 10, 200))
    kx, ky = (z @ z.T for z in (x - x.mean(0), y - y.mean(0)))
    assert (kx * ky).sum() / np.linalg.norm(kx) / np.linalg.norm(ky) > 0.8  # the plain form


def test_cka_equals_the_published_estimate(rng):
    """Song et al. 2012: [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'KL1] without diagonals."""
    x, y, n = rng.standard_normal((9, 5)), rng.standard_normal((9, 7)), 9

    def hsic(a, b):
        k, m = (z @ z.T * (1 - np.eye(n)) for z in (a, b))
        one = np.ones(n)
        shared = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + shared - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)


def test_cka_is_not_defined_for_too_few_or_equal_states(rng):
    assert np.isnan(linear_cka(*rng.standard_normal((2, 3, 5))))
    assert np.isnan(linear_cka(np.ones((6, 5)), rng.standard_normal((6, 5))))


def test_rotation_is_the_angle_between_planes():
    plane = np.array([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]])
    angle = np.radians(30)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    assert rotation(plane, plane, 2) == pytest.approx(0, abs=1e-5)
    assert rotation(plane, 5 * plane + 1, 2) == pytest.approx(0, abs=1e-5)
    assert rotation(plane, plane @ turn, 2) == pytest.approx(15)  # one axis stays, one turns by 30 degrees
    assert rotation(plane, plane[:, [2, 1, 0]], 1) == pytest.approx(90)


def test_drift_table_has_each_set_and_all_together(rng):
    states = rng.standard_normal((3, 12, 6))
    frame = drift_frame(states, states, ["a"] * 5 + ["b"] * 7, 4)
    assert frame.groupby("set").size().to_dict() == {"a": 3, "b": 3, EVERY: 3}
    assert frame.cka.to_numpy() == pytest.approx(1)
    together = frame[frame.set == EVERY]
    assert together.n.unique() == 12
    assert together.rotation.to_numpy() == pytest.approx(0, abs=1e-4)


# --- heads and experts


def test_divergence_and_output_change_have_their_bounds():
    p, q = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.2, 0.8])
    assert js_divergence(p, p) == 0
    assert js_divergence(p, q) == pytest.approx(1)
    assert js_divergence(p, (p + q) / 2) == pytest.approx(js_divergence((p + q) / 2, p))
    x = np.array([[1.0, 0], [1, 0], [0, 0]])
    assert output_change(x, np.array([[3.0, 0], [0, 2], [1, 1]])) == pytest.approx([0, 1, 0])


def test_disruption_table_averages_over_the_examples_of_a_set():
    attention = np.zeros((1, 2, 1, 2))
    attention[..., 0] = 1
    moved = attention.copy()
    moved[0, 1, 0] = [0, 1]
    heads = np.ones((1, 2, 1, 3))
    frame = disruption_frame((attention, heads), (moved, -2 * heads), ["a", "a"])
    assert frame.loc[0, ["attention", "output", "norm", "n"]].tolist() == pytest.approx([0.5, 2, 2, 2])


@pytest.mark.parametrize(("name", "layers"), [("mixtral", 3), ("qwen3_moe", 2), ("llama4", 1)])
def test_routing_shift_of_a_mixture_of_experts(name, layers):
    """``layers``: those that have experts."""
    model = tiny_models.build(name)
    engine, probes = PrefixEngine(model), make_probes()
    before, _ = measure(engine, probes, MATRICES, 1000)
    assert before.loads.shape == (layers, 4)
    assert before.loads.sum(-1).numpy() == pytest.approx(1)
    assert changes(kept(before), before, probes, 2)["routing"].divergence.to_numpy() == pytest.approx(0)
    with torch.no_grad():
        routers(model)[-1][0].weight.neg_()
    shift = changes(kept(before), observe(engine, probes, MATRICES, 1000), probes, 2)["routing"]
    assert shift.divergence[: layers - 1].to_numpy() == pytest.approx(0)
    assert shift.divergence[layers - 1] > 0.01


def test_models_without_experts_have_no_routing():
    assert routers(tiny_models.shared("llama")) == []
    assert routing_frame(None, None).empty


# --- gradients and the pass they come from


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "mistral"])
def test_observation_is_that_of_plain_passes(name):
    model, probes = tiny_models.build(name), make_probes()
    engine = PrefixEngine(model)
    seen = observe(engine, probes, MATRICES, batch_tokens=40)  # several batches
    layers = projection_layers(engine, MATRICES)
    weights = {key: module.weight for key, module in layers.items()}
    for p, probe in enumerate(probes):
        loss = plain_loss(model, probe)
        assert seen.loss[p].item() == pytest.approx(loss.item(), rel=1e-4)
        for key, slope in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            part = seen.projections[key][p]
            found = part.slopes.T @ part.inputs
            torch.testing.assert_close(found, slope, rtol=2e-3, atol=2e-5)
    example = probes[1].examples[1]
    ids = torch.tensor([list(example.prompt)])
    model.set_attn_implementation("eager")
    plain = model(ids, output_attentions=True, output_hidden_states=True, use_cache=False)
    at, n = 3, len(example.prompt)
    torch.testing.assert_close(seen.states[0, at], plain.hidden_states[1][0, -1], rtol=1e-3, atol=1e-4)
    for layer, weights in enumerate(plain.attentions):
        torch.testing.assert_close(seen.attention[layer, at, :, :n], weights[0, :, -1], rtol=1e-3, atol=1e-5)
    assert not seen.attention[:, at, :, n:].any()


def test_observation_of_a_frozen_model_is_the_same():
    model, probes = tiny_models.build("llama"), make_probes()
    free = observe(PrefixEngine(model), probes, MATRICES, 1000)
    model.requires_grad_(False)
    frozen = observe(PrefixEngine(model), probes, MATRICES, 1000)
    for key in free.projections:
        for a, b in zip(free.projections[key], frozen.projections[key], strict=True):
            torch.testing.assert_close(a.slopes, b.slopes)
    assert not any(p.requires_grad for p in model.parameters())


def test_interference_of_a_task_with_itself_is_one_and_with_its_opposite_minus_one(rng):
    g = rng.standard_normal((4, 30))
    stacked = np.concatenate([g, g, -g])
    gram = stacked @ stacked.T
    cosine, _ = interference(gram, np.repeat([0, 1, 2], 4))
    assert cosine == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))
    one = np.outer([1, 1, -1, 1], [1, 1, -1, 1])
    cosine, conflicts = interference(one, np.array([0, 0, 1, 1]))
    assert (cosine[0, 1], conflicts[0, 1]) == (
        pytest.approx(np.nan, nan_ok=True),
        pytest.approx(np.nan, nan_ok=True),
    )
    cosine, conflicts = interference(one + np.eye(4), np.array([0, 0, 1, 1]))
    assert (cosine[0, 1], conflicts[0, 1]) == pytest.approx((0, 0.5))


def test_grams_of_heads_add_up_to_those_of_matrices_and_of_the_model():
    engine, probes = PrefixEngine(tiny_models.shared("llama")), make_probes()
    seen, tables = measure(engine, probes, MATRICES, 1000)
    outputs = dict.fromkeys(range(3), "o_proj")
    found = grams(seen, engine.geometry, outputs)
    slices = {
        m: sum(1 for layer, name, head in found if (layer, name) == (1, m) and head != WHOLE)
        for m in MATRICES
    }
    assert slices == {"q_proj": 4, "k_proj": 2, "v_proj": 2, "o_proj": 4}  # grouped keys and values
    heads = sum(found[1, "o_proj", head] for head in range(4))
    np.testing.assert_allclose(heads, found[1, "o_proj", WHOLE], rtol=1e-5)
    whole = sum(found[layer, m, WHOLE] for layer in range(3) for m in MATRICES)
    np.testing.assert_allclose(whole, found[WHOLE, EVERY, WHOLE], rtol=1e-9)
    pairs = tables["gradients"].groupby(["layer", "matrix", "head"]).size()
    assert set(pairs) == {1}  # one pair of sets
    weight = projection_layers(engine, MATRICES)[1, "o_proj"].weight
    slopes = [torch.autograd.grad(plain_loss(engine.model, p), weight)[0][:, 12:24] for p in probes[:2]]
    assert found[1, "o_proj", 1][0, 1] == pytest.approx((slopes[0] * slopes[1]).sum().item(), rel=1e-3)


def test_a_name_that_no_layer_has_is_an_error():
    engine = PrefixEngine(tiny_models.shared("phi3"))
    with pytest.raises(
        UserError, match=r"mechanisms.matrices names q_proj, .* has 0: choose from .*qkv_proj"
    ):
        projection_layers(engine, MATRICES)
    assert observe(engine, make_probes(), ["qkv_proj", "o_proj"], 1000).loss.isfinite().all()


def test_probes_are_fixed_and_never_test_examples():
    rows = [
        (s, f"{s}{i}", f"word{i}", f"answer{i}") for s in ("train", "validation", "test") for i in range(6)
    ]
    task = pd.DataFrame(rows, columns=["split", "example_id", "input", "target"]).assign(instruction="Do it.")
    tokenizer = tiny_models.tokenizer()
    drawn = [draw_probes({"a": task}, tokenizer, Template(), 3, 4, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(p.examples) for p in drawn[0]] == [4, 4, 4]
    assert all(e.answer[-1] == tiny_models.END for p in drawn[0] for e in p.examples)
    test = draw_probes({"a": task[task.split != "test"]}, tokenizer, Template(), 3, 4, 0)
    assert test == drawn[0]
    with pytest.raises(UserError, match="has 12 besides its test rows"):
        draw_probes({"a": task}, tokenizer, Template(), 4, 4, 0)


def test_similarity_of_a_set_to_its_opposite():
    states = np.zeros((2, 4, 3))
    states[1] = [[1, 0, 5], [1, 0, 5], [-1, 0, 5], [-1, 0, 5]]
    frame = similarity_frame(states, ["a", "a", "b", "b"])
    assert frame.hidden.to_numpy() == pytest.approx([-1, -1])
    assert frame.layer.unique() == 1


# --- curvature


def test_hessian_of_a_quadratic_is_its_matrix(rng):
    values = np.array([-3.0, 0.5, 1.0, 2.0, 7.5, 7.0])
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    matrix = torch.from_numpy(turn @ np.diag(values) @ turn.T)
    x, y = (torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (2, 4))

    def loss():
        z = torch.cat([x, y])
        return z @ matrix @ z / 2 + z.sum()

    hessian = Hessian(loss, [x, y])
    largest, products = hessian.largest(1e-6, rng)
    assert largest == pytest.approx(7.5, rel=1e-6)
    assert products > 1
    mean, error = hessian.trace(400, rng)
    assert abs(mean - values.sum()) < 4 * error
    assert Hessian(lambda: (3 * x**2).sum(), [x]).trace(1, rng) == (
        pytest.approx(12),
        pytest.approx(np.nan, nan_ok=True),
    )


def test_largest_eigenvalue_and_trace_are_those_of_the_dense_hessian(rng):
    model, probe = tiny_models.build("llama").double(), make_probes()[0]
    tuned = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    tuned.eval()
    engine = PrefixEngine(tuned)
    weights = [p for p in tuned.parameters() if p.requires_grad][:4]
    sizes = [w.numel() for w in weights]
    names = [n for n, p in tuned.named_parameters() if any(p is w for w in weights)]

    def plain(flat):
        parts = [f.view_as(w) for f, w in zip(flat.split(sizes), weights, strict=True)]
        return plain_loss(
            lambda *a, **k: torch.func.functional_call(tuned, dict(zip(names, parts, strict=True)), a, k),
            probe,
        )

    tuned.set_attn_implementation("eager")
    flat = torch.cat([w.detach().flatten() for w in weights])
    dense = torch.autograd.functional.hessian(plain, flat).numpy()
    hessian = Hessian(probe_loss(engine, probe), weights)
    assert hessian.largest(1e-5, rng)[0] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-3)
    vector = rng.standard_normal(hessian.size)
    np.testing.assert_allclose(
        hessian.product(torch.from_numpy(vector)), dense @ vector, rtol=1e-3, atol=1e-3
    )
    mean, error = hessian.trace(200, rng)
    assert abs(mean - np.trace(dense)) < 5 * error


def test_slice_passes_through_the_loss_and_leaves_the_weights(rng):
    model, probe = tiny_models.build("llama"), make_probes()[0]
    engine = PrefixEngine(model)
    weights = [m.weight for m in projection_layers(engine, MATRICES).values()]
    before = [w.detach().clone() for w in weights]
    direction = filter_direction(weights, rng)
    for way, weight in zip(direction, weights, strict=True):
        torch.testing.assert_close(way.norm(dim=1), weight.detach().norm(dim=1))
    loss = probe_loss(engine, probe)
    found = loss_slice(loss, weights, direction, [-0.3, 0.0, 0.3])
    assert found[1] == pytest.approx(plain_loss(model, probe).item(), rel=1e-4)
    assert abs(found[0] - found[1]) > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))


def test_landscape_restores_what_requires_gradients():
    model = tiny_models.build("llama")
    model.model.layers[0].requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    frame = base_landscape(PrefixEngine(model), make_probes()[0], MATRICES, SETTINGS, seed=0)
    assert [p.requires_grad for p in model.parameters()] == before
    assert list(frame[frame.weights == "sliced"].step) == [-0.5, 0, 0.5]
    sizes = frame[(frame.weights == "base") & (frame.measure == "size")].value
    assert sizes.item() == 48 * 48 * 2 + 24 * 48 * 2
    with only_trainable(model, [model.lm_head.weight]):
        assert sum(p.requires_grad for p in model.parameters()) == 1
    with pytest.raises(UserError, match=r"mechanisms.curvature.layer = 3: the model has 3 layers"):
        base_landscape(PrefixEngine(model), make_probes()[0], MATRICES, {**SETTINGS, "layer": 3}, seed=0)
