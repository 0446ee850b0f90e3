"""IV-guided training against a plain reference with one full forward per variant: value and gradient."""

import copy
from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny_models
from anamnesis.engine.batches import Batch
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.heads import find_heads
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.training import divergence as divergence_module
from anamnesis.training import reference
from anamnesis.training.build import build
from anamnesis.training.distillation import KlSettings
from anamnesis.training.divergence import DIRECTIONS, divergence
from anamnesis.training.objectives import Objective
from anamnesis.training.scores import Scores
from anamnesis.training.stage import Stage
from anamnesis.training.student import PassNeeds, run_student

TARGETS = {"gpt2": ["c_attn"], "neox": ["query_key_value"], "phi3": ["qkv_proj"]}
LENGTHS = [(9, 3), (5, 2), (12, 1)]  # (prompt, answer) tokens after the common beginning
BEGINNING = [41, 17, 99, 4]


def tuned(name: str):
    """A tiny model with an adapter that is not the identity (both factors non-zero), without dropout."""
    settings = {
        "rank": 2,
        "alpha": 4,
        "dropout": 0.0,
        "target_modules": TARGETS.get(name, ["q_proj", "v_proj"]),
    }
    model = add_lora(tiny_models.build(name), settings, seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # GPT-2 has dropout of its own
    move(model, seed=2)
    return model.train()


def move(model, seed: int) -> None:
    """Other weights in the adapter, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def batch() -> list[Example]:
    """Three examples of one task, whose prompts begin alike, and which differ in length."""
    texts = []
    for seed, (prompt, answer) in enumerate(LENGTHS):
        tokens = tiny_models.token_ids(seed, prompt + answer)[0]
        texts.append((tuple([*BEGINNING, *tokens[:prompt]]), tuple(tokens[prompt:])))
    examples = with_shared_prefix(texts)
    assert examples[0].prefix_length == len(BEGINNING)
    return examples


def stage_of(model, examples: list[Example]) -> Stage:
    training = {"epochs": 1, "batch_size": 8}
    return Stage(PrefixEngine(model), None, 1, examples, {}, training, seed=0, batch_tokens=40)


def guided(model, examples, kl: KlSettings, teacher: str, **changes) -> Objective:
    """The objective of inclora-ivg at the start of a stage; the adapter moves on afterwards."""
    guidance = {
        "kl": {**asdict(kl), "teacher": teacher},
        "schedule": "linear",
        "plateau": 0.25,
        "intervention": True,
        **changes,
    }
    _, objective = build("inclora", stage_of(model, examples), guidance, additions(model))
    move(model, seed=3)
    return objective


def at_start(model):
    """The model as it was when ``guided`` was called."""
    before = copy.deepcopy(model)
    move(before, seed=2)
    return before


def additions(model) -> dict[int, torch.Tensor]:
    geometry = find_heads(model)
    found = {}
    for layer, heads in ((0, [1]), (2, [0, 3])):
        found[layer] = torch.zeros(geometry.n_heads, geometry.head_dim)
        found[layer][heads] = torch.randn(
            len(heads), geometry.head_dim, generator=torch.Generator().manual_seed(layer)
        )
    return found


def plain_logits(model, example: Example, vectors=None, degree: float = 0.0) -> torch.Tensor:
    """(tokens, vocabulary) logits of one ordinary forward, with ``degree`` x vectors added at the last prompt
    token.
    """
    geometry, handles = find_heads(model), []
    position = len(example.prompt) - 1

    def hook_for(vector):
        def hook(module, args):
            changed = args[0].clone()
            changed[0, position] = changed[0, position] + degree * vector.flatten()
            return (changed,)

        return hook

    for layer, vector in (vectors or {}).items():
        handles.append(geometry.projections[layer].register_forward_pre_hook(hook_for(vector)))
    try:
        tokens = torch.tensor([[*example.prompt, *example.answer[:-1]]])
        return model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()


def plain_kl(student, teacher, kl: KlSettings) -> torch.Tensor:
    """Per position (rows)."""
    p, q = (x.double().div(kl.temperature).softmax(-1) for x in (student, teacher))
    if kl.direction == "teacher_student":
        p, q = q, p
    return (p * (p.log() - q.log())).sum(-1)


def plain_loss(model, examples, kl: KlSettings, teacher: str, s: float) -> torch.Tensor:
    vectors, before = additions(model), at_start(model)
    guided_rows, answers, terms = [], [], []
    for example in examples:
        first = len(example.prompt) - 1
        guided_rows.append(plain_logits(model, example, vectors, s)[first:])
        answers += example.answer
        student = plain_logits(model, example)
        with torch.no_grad():
            taught = plain_logits(before if teacher == "previous" else model, example, vectors, 1.0)
        span = {
            "all": slice(0 if teacher == "previous" else first, None),
            "output": slice(first, None),
            "last_prompt": slice(first, first + 1),
        }[kl.positions]
        term = plain_kl(student[span], taught[span], kl)
        terms.append(term.mean() if kl.reduction == "mean" else term.sum())
    scale = kl.temperature**2 if kl.temperature_squared else 1.0
    loss = cross_entropy(torch.cat(guided_rows), torch.tensor(answers))
    return loss + kl.weight * scale * torch.stack(terms).mean()


def gradients(model, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


def assert_same(model, fast: torch.Tensor, plain: torch.Tensor) -> None:
    torch.testing.assert_close(fast.double(), plain.double(), atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(model, fast), gradients(model, plain), strict=True):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def loss_of(model, objective: Objective, progress: float, examples=None):
    return objective(PrefixEngine(model), Batch(tuple(examples or batch())), progress)


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_the_answer_loss_equals_separate_forwards(name):
    model, examples = tuned(name), batch()
    rows = [plain_logits(model, e)[len(e.prompt) - 1 :] for e in examples]
    plain = cross_entropy(torch.cat(rows), torch.tensor([t for e in examples for t in e.answer]))
    assert_same(model, loss_of(model, Objective(), 0.0).total, plain)


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
@pytest.mark.parametrize("teacher", ["previous", "current"])
def test_the_guided_loss_equals_three_forwards_on_every_architecture(name, teacher):
    model, kl = tuned(name), KlSettings(weight=0.5)
    fast = loss_of(model, guided(model, batch(), kl, teacher), 0.3).total
    assert_same(model, fast, plain_loss(model, batch(), kl, teacher, 0.7))


@pytest.mark.parametrize("positions", ["all", "output", "last_prompt"])
@pytest.mark.parametrize("direction", ["student_teacher", "teacher_student"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("teacher", ["previous", "current"])
def test_every_form_of_the_divergence_equals_its_reference(positions, direction, reduction, teacher):
    model = tuned("llama")
    kl = KlSettings(0.3, positions, direction, 1.5, reduction == "mean", reduction)
    if (teacher, positions, reduction) == ("current", "all", "mean"):
        return  # the mean over "all" is there the mean over the positions that can differ
    fast = loss_of(model, guided(model, batch(), kl, teacher), 0.6).total
    assert_same(model, fast, plain_loss(model, batch(), kl, teacher, 0.4))


def test_a_teacher_that_may_not_be_kept_in_memory_gives_the_same_loss(monkeypatch):
    model, kl = tuned("llama"), KlSettings(weight=0.5)
    monkeypatch.setattr(reference, "LARGEST_CACHE", 0)
    fast = loss_of(model, guided(model, batch(), kl, "previous"), 0.3).total
    assert_same(model, fast, plain_loss(model, batch(), kl, "previous", 0.7))


def test_replayed_examples_are_answered_without_guidance():
    """They count in the answer loss only, and need not begin like the new task's."""
    model, kl = tuned("llama"), KlSettings(weight=0.5)
    old = [Example(tuple(tiny_models.token_ids(8, 7)[0]), (5, 6), 3, new=False)]
    fast = loss_of(model, guided(model, batch(), kl, "previous"), 0.3, [*old, *batch()]).total
    tokens = sum(len(e.answer) for e in batch())
    kl_term = plain_loss(model, batch(), kl, "previous", 0.7) - plain_loss(
        model, batch(), KlSettings(weight=0.0), "previous", 0.7
    )
    answers = plain_loss(model, batch(), KlSettings(weight=0.0), "previous", 0.7) * tokens
    answers = answers + cross_entropy(plain_logits(model, old[0])[-2:], torch.tensor([5, 6])) * 2
    assert_same(model, fast, answers / (tokens + 2) + kl_term)


def test_without_intervention_the_guided_answer_is_the_plain_one():
    """At strength 0 the pack holds one branch less, and the loss is still that of the reference."""
    model, kl = tuned("llama"), KlSettings(weight=0.5)
    fast = loss_of(model, guided(model, batch(), kl, "previous", schedule="plateau"), 0.9).total
    assert_same(model, fast, plain_loss(model, batch(), kl, "previous", 0.0))


def test_the_intervention_can_be_left_out():
    model, kl = tuned("llama"), KlSettings(weight=0.5)
    loss = loss_of(model, guided(model, batch(), kl, "previous", intervention=False), 0.1)
    assert_same(model, loss.total, plain_loss(model, batch(), kl, "previous", 0.0))


def test_weight_zero_leaves_the_intervened_cross_entropy():
    model = tuned("llama")
    loss = loss_of(model, guided(model, batch(), KlSettings(weight=0.0), "previous"), 0.5)
    rows = [plain_logits(model, e, additions(model), 0.5)[len(e.prompt) - 1 :] for e in batch()]
    plain = cross_entropy(torch.cat(rows), torch.tensor([t for e in batch() for t in e.answer]))
    assert_same(model, loss.total, plain)
    assert "kl" not in loss.parts


def test_the_teacher_leaves_the_model_in_training_mode_with_its_adapter():
    model = tuned("llama")
    before = plain_logits(model, batch()[0])
    stage_of(model, batch()).reference().scores(batch(), "all")
    assert model.training
    torch.testing.assert_close(plain_logits(model, batch()[0]), before)


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_divergence_has_the_gradient_of_autograd(direction, with_head, monkeypatch):
    """More rows than one chunk, unequal weights, float64 reference."""
    monkeypatch.setattr(divergence_module, "CHUNK", 32 * 37)
    monkeypatch.setattr(divergence_module, "CACHED", 5 * 37)
    generator = torch.Generator().manual_seed(0)
    width = 12 if with_head else 37
    student, teacher = (3 * torch.randn(71, width, generator=generator) for _ in range(2))
    weight = torch.rand(71, generator=generator)
    head = torch.nn.Linear(12, 37).requires_grad_(False) if with_head else None
    ours = student.clone().requires_grad_()
    value = (weight * divergence(Scores(ours, head), Scores(teacher, head), 2.0, direction)).sum()
    (3 * value).backward()
    theirs = student.double().clone().requires_grad_()
    asked = DIRECTIONS[:2] if direction == "symmetric" else [direction]
    kinds = [KlSettings(temperature=2.0, direction=one) for one in asked]
    exact = copy.deepcopy(head).double() if head else torch.nn.Identity()
    seen, taught = exact(theirs), exact(teacher.double())
    expected = sum((weight.double() * plain_kl(seen, taught, kl)).sum() for kl in kinds)
    (3 * expected).backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-6, rtol=1e-5)


def test_what_terms_have_in_common_is_computed_at_the_widest_positions_asked_so_far():
    engine, asked = PrefixEngine(tuned("llama")), []
    student = run_student(engine, batch(), 0.0, PassNeeds("all"))

    def first_logits(positions):
        def compute(student):
            asked.append(positions)
            return student.plain(positions).logits()[:, 0]

        return compute

    for positions in ("last_prompt", "all", "output", "last_prompt"):
        found = student.compared("logits", positions, first_logits(positions))
        torch.testing.assert_close(found, student.plain(positions).logits()[:, 0])
    assert asked == ["last_prompt", "all"]
    student.compared("another", "output", first_logits("output"))
    assert asked[2:] == ["output"]


def test_a_model_has_no_divergence_from_itself():
    logits = torch.randn(5, 11, requires_grad=True)
    value = divergence(Scores(logits), Scores(logits.detach().clone()), 1.0, "symmetric")
    value.sum().backward()
    assert value.abs().max() < 1e-6
    assert logits.grad.abs().max() < 1e-6
