"""Joint flashback adaptation: losses and gradients against plain forwards, one prompt at a time; projections
and retrieval by hand; latent tasks on disk with PEFT alone.
"""

import json

import pandas as pd
import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div

import tiny_models
from anamnesis.errors import UserError
from anamnesis.evaluation.generation import Request, generate
from anamnesis.evaluation.scoring import Question, score_questions
from anamnesis.models.encoder import PromptEncoder
from anamnesis.models.latent import LatentEngine, LatentPool
from anamnesis.models.latent_files import engine_of, load_pool
from anamnesis.models.loading import load_model, merge_adapters
from anamnesis.prefix.engine import PrefixEngine
from anamnesis.training.adapters import add_adapter, save_adapter
from anamnesis.training.batches import Batch
from anamnesis.training.examples import Example, with_stem
from anamnesis.training.loop import train_stage
from anamnesis.training.methods import build
from anamnesis.training.methods.flashbacks import choose_flashbacks, with_flashbacks
from anamnesis.training.methods.projection import PROJECTIONS, inner
from anamnesis.training.stage import Stage

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
SETTINGS = {
    "flashbacks": 4,
    "flashbacks_per_step": 2,
    "alpha": 0.7,
    "reduction": "mean",
    "divergence": "symmetric",
    "latent_tasks": True,
    "pool": 5,
    "nearest": 2,
    "segments": 4,
    "latent_rank": 2,
    "latent_layers": None,
    "encoder": "self",
    "encoder_layer": None,
    "projection": "pcgrad",
}
TRAINING = {
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
MIDDLE = 1  # layer of the tiny models, which have three


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("base") / "model")


def task(seed: int, new: bool = True) -> list[Example]:
    """Four examples of one task, whose prompts begin alike."""
    texts = []
    for i, (prompt, answer) in enumerate([(9, 3), (5, 2), (12, 1), (7, 2)]):
        tokens = tiny_models.token_ids(100 * seed + i, prompt + answer)[0]
        texts.append(((40 + seed, 17, *tokens[:prompt]), tuple(tokens[prompt:])))
    return with_stem(texts, new)


def past() -> dict[str, list[Example]]:
    return {"first": task(1, new=False), "second": task(2, new=False)}


def stage_of(snapshot, earlier=(), past=None, dropout: float = 0.0, **changes) -> Stage:
    model, tokenizer = load_model(snapshot, device="cpu")
    model = add_adapter(merge_adapters(model, earlier), {**LORA, "dropout": dropout}, 7)
    number, settings = len(earlier) + 1, {**SETTINGS, **changes}
    engine = PrefixEngine(model.train())
    return Stage(
        engine, tokenizer, number, task(0), settings, TRAINING, 3, 80, past or {}, earlier, snapshot=snapshot
    )


def moved(method, seed: int = 5):
    """The method after some training: other weights in the adapter and in all latent tasks."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.stage.trainable.values():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise))
    return method


# --- references: one plain forward for each prompt, with ΔW(q) of its own in the weights of o_proj


def mean_hidden(snapshot, prompt, layer: int = MIDDLE) -> torch.Tensor:
    model, _ = load_model(snapshot, device="cpu")
    with torch.no_grad():
        found = model(torch.tensor([list(prompt)]), output_hidden_states=True).hidden_states[layer + 1]
    return found[0].mean(0)


def plain_shares(query: torch.Tensor, keys: torch.Tensor, nearest: int) -> dict[int, float]:
    segments = query.view(len(keys), -1)
    similarity = [
        sum(cosine_similarity(s, k[n], dim=0).item() for s, k in zip(segments, keys, strict=True)) / len(keys)
        for n in range(keys.shape[1])
    ]
    best = sorted(range(len(similarity)), key=lambda n: -similarity[n])[:nearest]
    kept = {n: max(similarity[n], 1e-6) for n in best}
    return {n: value / sum(kept.values()) for n, value in kept.items()}


def plain_logits(model, pool, example: Example, snapshot) -> torch.Tensor:
    """(tokens, vocabulary) logits of a prompt and its answer."""
    tokens, handles = torch.tensor([[*example.prompt, *example.answer[:-1]]]), []
    if pool is not None:
        shares = plain_shares(mean_hidden(snapshot, example.prompt), pool.keys, pool.nearest)
        delta = sum(w * pool.up[0, n].T @ pool.down[0, n] for n, w in shares.items())
        attention = model.get_base_model().model.layers[MIDDLE].self_attn
        hook = attention.o_proj.register_forward_hook(lambda m, args, out: out + args[0] @ delta.T)
        handles.append(hook)
    try:
        return model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()


def plain_answer_loss(method, examples, snapshot) -> torch.Tensor:
    model, pool = method.stage.engine.model, getattr(method.stage.engine, "pool", None)
    rows = [plain_logits(model, pool, e, snapshot)[len(e.prompt) - 1 :] for e in examples]
    return cross_entropy(torch.cat(rows), torch.tensor([t for e in examples for t in e.answer]))


def plain_divergence(method, flashbacks, snapshot, before: list[torch.Tensor]) -> torch.Tensor:
    settings, terms = method.stage.settings, []
    model, pool = method.stage.engine.model, getattr(method.stage.engine, "pool", None)
    for example, reference in zip(flashbacks, before, strict=True):
        now = plain_logits(model, pool, example, snapshot).log_softmax(-1)
        then = reference.log_softmax(-1)
        onto_now = kl_div(now, then, log_target=True, reduction="none").sum(-1)
        onto_then = kl_div(then, now, log_target=True, reduction="none").sum(-1)
        each = 2 * onto_now if settings["divergence"] == "released" else onto_now + onto_then
        terms.append(each.mean() if settings["reduction"] == "mean" else each.sum())
    return settings["alpha"] * torch.stack(terms).mean()


def gradients(method, loss: torch.Tensor) -> list[torch.Tensor]:
    weights = list(method.stage.trainable.values())
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def assert_same(method, fast: torch.Tensor, plain: torch.Tensor) -> None:
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(method, fast), gradients(method, plain), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


# --- losses


@pytest.mark.parametrize("latent", [True, False])
@pytest.mark.parametrize(("reduction", "divergence"), [("mean", "symmetric"), ("sum", "released")])
def test_both_losses_equal_forwards_of_one_prompt_at_a_time(snapshot, latent, reduction, divergence):
    stage = stage_of(snapshot, past=past(), latent_tasks=latent, reduction=reduction, divergence=divergence)
    method, objective = build("jfa", stage)
    batch = method.batches()[0]
    model, pool = method.stage.engine.model, getattr(method.stage.engine, "pool", None)
    with torch.no_grad():
        before = [plain_logits(model, pool, e, snapshot) for e in batch.flashbacks]
    moved(method)
    loss = objective(method.stage.engine, batch, 0.0)
    assert_same(method, loss.total, plain_answer_loss(method, batch.examples, snapshot))
    fast = loss.protected()
    assert fast > 0.01
    assert_same(method, fast, plain_divergence(method, batch.flashbacks, snapshot, before))


def test_increments_begin_at_zero_and_can_be_learnt(snapshot):
    method, objective = build("jfa", stage_of(snapshot))
    batch = method.batches()[0]
    loss = objective(method.stage.engine, batch, 0.0)
    plain, own = build("inclora", stage_of(snapshot))
    expected = own(plain.stage.engine, batch, 0.0).total
    torch.testing.assert_close(loss.total, expected, atol=1e-6, rtol=1e-6)
    slopes = dict(zip(method.stage.trainable, gradients(method, loss.total), strict=True))
    assert slopes["latent_tasks.up"].abs().max() > 0


@pytest.mark.parametrize("off", [{"flashbacks": 0}, {"alpha": 0.0}, {}])
def test_without_flashbacks_or_earlier_tasks_the_loss_is_plain(snapshot, off):
    stage = stage_of(snapshot, past=past() if off else {}, latent_tasks=False, **off)
    method, objective = build("jfa", stage)
    (batch, *_) = method.batches()
    assert batch.flashbacks == ()
    loss = objective(method.stage.engine, batch, 0.0)
    assert loss.protected is None
    torch.testing.assert_close(loss.total, plain_answer_loss(method, batch.examples, snapshot))


def test_flashbacks_are_prompts_of_every_task_in_turn_and_come_round_again(snapshot):
    stage = stage_of(snapshot, past=past(), latent_tasks=False, flashbacks=3)
    chosen = choose_flashbacks(stage, 3)
    assert [e.prompt[0] for e in chosen] == [41, 42] * 3
    assert len(set(chosen)) == 6
    assert all(e.new and not e.answer for e in chosen)
    assert chosen == choose_flashbacks(stage, 3)
    assert len(choose_flashbacks(stage, 99)) == 8
    batches = with_flashbacks([Batch(())] * 4, chosen, 4)
    assert [e for b in batches for e in b.flashbacks] == [*chosen, *chosen, *chosen[:4]]


def test_a_task_without_flashbacks_is_refused(snapshot):
    stage = stage_of(snapshot, past={"first": task(1), "bare": []})
    with pytest.raises(UserError, match="flashbacks are asked from a task with none, bare"):
        build("jfa", stage)


def test_guidance_and_flashbacks_go_together(snapshot):
    """jfa-ivg: the guided loss is one loss, the flashbacks the other; the teacher has latent tasks too."""
    layer = torch.zeros(4, 12)
    layer[1] = torch.randn(12, generator=torch.Generator().manual_seed(1))
    kl = {
        "weight": 0.3, "teacher": "previous", "positions": "last_prompt", "direction": "student_teacher",
        "temperature": 1.0, "temperature_squared": False, "reduction": "sum",
    }  # fmt: skip
    guidance = {"kl": kl, "schedule": "linear", "plateau": 0.25, "intervention": False}
    method, objective = build("jfa", stage_of(snapshot, past=past()), guidance, {0: layer})
    model, pool, (batch, *_) = method.stage.engine.model, method.stage.engine.pool, method.batches()

    def last(example):
        return plain_logits(model, pool, example, snapshot)[len(example.prompt) - 1].log_softmax(-1)

    def add(module, args):
        x = args[0].clone()
        x[0, position] += layer.flatten()
        return (x,)

    taught = []
    for e in batch.examples:
        position = len(e.prompt) - 1
        hook = model.get_base_model().model.layers[0].self_attn.o_proj.register_forward_pre_hook(add)
        with torch.no_grad():
            taught.append(last(e))
        hook.remove()
    moved(method)
    loss = objective(method.stage.engine, batch, 0.0)
    terms = [
        kl_div(t, last(e), log_target=True, reduction="sum")
        for e, t in zip(batch.examples, taught, strict=True)
    ]
    plain = plain_answer_loss(method, batch.examples, snapshot) + 0.3 * torch.stack(terms).mean()
    assert loss.protected is not None
    assert_same(method, loss.total, plain)


# --- projections, worked by hand: gradients over two parameters of shapes (1,) and (2,)


def pair(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(part, dtype=torch.float32) for part in (values[:1], values[1:])]


@pytest.mark.parametrize(
    ("kind", "new", "protected", "expected"),
    [
        # <a, b> = -1, |a|² = 1, |b|² = 2: a + b/2 = (.5, .5, 0), b + a = (0, 1, 0)
        ("pcgrad", (1, 0, 0), (-1, 1, 0), (0.5, 1.5, 0)),
        ("agem", (1, 0, 0), (-1, 1, 0), (-0.5, 1.5, 0)),
        ("none", (1, 0, 0), (-1, 1, 0), (0, 1, 0)),
        # both = (0, 1, 0) is orthogonal to a, so that their mean is (a + both) / 2
        ("released", (1, 0, 0), (-1, 1, 0), (0.5, 0.5, 0)),
        # both = (-1, 1, 0): a + both/2 = (.5, .5, 0), both + a = (0, 1, 0), halved
        ("released", (1, 0, 0), (-2, 1, 0), (0.25, 0.75, 0)),
        # aligned and orthogonal: nothing gives way
        ("pcgrad", (1, 0, 2), (3, 1, 1), (4, 1, 3)),
        ("pcgrad", (1, 0, 0), (0, 2, 0), (1, 2, 0)),
        ("agem", (1, 0, 2), (3, 1, 1), (4, 1, 3)),
        ("released", (1, 0, 0), (0, 2, 0), (1, 1, 0)),
        # conflict in the sum over all parameters only: the first parameter alone agrees
        ("pcgrad", (1, 2, 0), (1, -1, 0), (1.5 + 1.2, 1.5 - 0.6, 0)),
        # no flashback gradient
        ("pcgrad", (1, 2, 3), (0, 0, 0), (1, 2, 3)),
    ],
)
def test_projections_by_hand(kind, new, protected, expected):
    found = PROJECTIONS[kind](pair(*new), pair(*protected))
    for ours, theirs in zip(found, pair(*expected), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["pcgrad", "none"])
def test_a_step_applies_the_combined_gradient(snapshot, tmp_path, kind):
    """One step of plain SGD against autograd and the projection, from outside."""
    changes = {"past": past(), "projection": kind, "alpha": 30.0}
    options = {**TRAINING, "optimizer": "torch.optim.SGD", "scheduler": "constant", "weight_decay": 0.0}

    def ready():
        method, objective = build("jfa", stage_of(snapshot, **changes))
        return moved(method), objective, method.batches()[0]

    method, objective, batch = ready()
    loss = objective(method.stage.engine, batch, 0.0)
    new = gradients(method, loss.total)
    old = gradients(method, loss.protected())
    assert inner(new, old) != 0
    step = PROJECTIONS[kind](new, old)
    norm = torch.stack([g.norm() for g in step]).norm()
    before = [p.detach().clone() for p in method.stage.trainable.values()]
    trained, objective, batch = ready()
    log = train_stage(trained.stage.engine, [batch], objective, options, 3, tmp_path / kind)
    for p, b, g in zip(trained.stage.trainable.values(), before, step, strict=True):
        torch.testing.assert_close(p.detach(), b - 0.01 * g / max(norm, 1.0), atol=1e-6, rtol=1e-5)
    assert log.protected.iloc[0] > 0


# --- latent tasks


def test_retrieval_by_hand():
    """Two segments of two numbers, three slots; cosines of (3, 4 | 1, 0) with each key."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    pool = LatentPool(keys, torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4), [0], 2)
    # mean cosines: (.6 + 1)/2 = .8, (.8 + 0)/2 = .4, (-.6 + 0)/2 = -.3
    queries = torch.tensor([[3.0, 4.0, 1.0, 0.0], [-1.0, -1.0, -1.0, 1e-6]])
    shares = pool.shares(queries)
    torch.testing.assert_close(shares[0], torch.tensor([2 / 3, 1 / 3, 0.0]))
    # (-.71 - 1)/2, (-.71 + 0)/2, (.71 + 0)/2: the second counts as the smallest allowed
    torch.testing.assert_close(shares[1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    assert shares[1, 1] > 0
    pool.nearest = 3
    negative = pool.shares(torch.tensor([[-1.0, -1.0, -1.0, 1e-6]]) * torch.tensor([-1.0, 1, 1, -1]))
    assert negative.min() > 0
    assert negative.sum().item() == pytest.approx(1.0)


def test_keys_are_orthogonal_frozen_and_the_same_in_all_stages(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot))
    keys = method.stage.engine.pool.keys
    for segment in keys:
        torch.testing.assert_close(segment @ segment.T, torch.eye(5), atol=1e-6, rtol=0)
    assert not any("keys" in name for name in method.stage.trainable)
    assert {"latent_tasks.down", "latent_tasks.up"} <= set(method.stage.trainable)
    first = finished(moved(method), tmp_path / "first")
    second, _ = build("jfa", stage_of(snapshot, [first], past()))
    for name, value in method.stage.engine.pool.state_dict().items():
        assert torch.equal(second.stage.engine.pool.state_dict()[name], value), name


def finished(method, folder, earlier=()):
    folder.mkdir()
    save_adapter(method.stage.engine.model, folder, "tiny", [str(a) for a in earlier])
    method.save(folder)
    return folder


def second_stage(snapshot, tmp_path):
    """Two stages with latent tasks: (the second method after training, adapter folders)."""
    first, _ = build("jfa", stage_of(snapshot, latent_layers=[0, 1]))
    folders = [finished(moved(first), tmp_path / "first")]
    second, _ = build("jfa", stage_of(snapshot, folders, past(), latent_layers=[0, 1]))
    folders.append(finished(moved(second, 6), tmp_path / "second", folders))
    return second, folders


def test_peft_alone_gives_what_is_evaluated(snapshot, tmp_path):
    """As the note in the adapter's folder says: merge, retrieve, and mix the slots' adapters."""
    _, folders = second_stage(snapshot, tmp_path)
    prompts = [list(e.prompt) for e in task(4)]
    answers = [tiny_models.token_ids(50 + i, 1, 3, 2) for i in range(len(prompts))]
    model, tokenizer = load_model(snapshot, device="cpu")
    engine = engine_of(merge_adapters(model, folders), folders, snapshot, tokenizer)
    assert isinstance(engine, LatentEngine)
    questions = [Question(p, a) for p, a in zip(prompts, answers, strict=True)]
    scores = score_questions(engine, questions, 60)
    written = generate(engine, [Request(prompts, 5)], lambda ids: False, 30)[0]
    keys = load_pool(folders[-1])[0].keys
    settings = json.loads((folders[-1] / "latent" / "settings.json").read_text())
    for prompt, choices, score, ids in zip(prompts, answers, scores, written, strict=True):
        stock = peft_alone(
            snapshot, folders, plain_shares(mean_hidden(snapshot, prompt), keys, settings["nearest"])
        )
        for choice, found in zip(choices, score.log_probability, strict=True):
            logits = stock(torch.tensor([[*prompt, *choice]])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(choice)[:, None]).sum().item()
            assert found == pytest.approx(expected, abs=1e-4)
        greedy = []
        for _ in range(5):
            greedy.append(int(stock(torch.tensor([[*prompt, *greedy]])).logits[0, -1].argmax()))
        assert ids == greedy
    note = (folders[-1] / "README.md").read_text()
    assert "add_weighted_adapter" in note
    assert "load them in this" in note.lower()


def peft_alone(snapshot, folders, shares: dict[int, float]):
    model, _ = load_model(snapshot, device="cpu")
    for folder in folders:
        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    slots = [f"slot{n:02d}" for n in shares]
    latent = folders[-1] / "latent"
    model = PeftModel.from_pretrained(model, latent / slots[0], adapter_name=slots[0])
    for slot in slots[1:]:
        model.load_adapter(latent / slot, slot)
    model.add_weighted_adapter(slots, list(shares.values()), "prompt", combination_type="cat")
    model.set_adapter("prompt")
    return model.eval()


def test_training_and_evaluation_give_a_prompt_the_same_logits(snapshot, tmp_path):
    method, folders = second_stage(snapshot, tmp_path)
    model, tokenizer = load_model(snapshot, device="cpu")
    engine = engine_of(merge_adapters(model, folders), folders, snapshot, tokenizer)
    for e in method.stage.examples[:2]:
        score = score_questions(engine, [Question(e.prompt, [e.answer])], 999)[0].log_probability[0]
        method.stage.engine.model.eval()
        mean = objective_of(method)(method.stage.engine, Batch((e,)), 0.0).total.item()
        assert score == pytest.approx(-mean * len(e.answer), abs=1e-4)


def objective_of(method):
    return method.objective([], None)


def test_a_chain_without_latent_tasks_is_evaluated_by_the_plain_engine(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot, latent_tasks=False))
    folder = finished(moved(method), tmp_path / "plain")
    assert not (folder / "latent").exists()
    model, tokenizer = load_model(snapshot, device="cpu")
    assert type(engine_of(merge_adapters(model, [folder]), [folder], snapshot, tokenizer)) is PrefixEngine
    assert type(engine_of(model, [], snapshot, tokenizer)) is PrefixEngine


def test_prompts_are_encoded_by_the_base_model_whatever_is_beside_them(snapshot):
    encoder = PromptEncoder("self", 0, snapshot, tiny_models.tokenizer(), torch.float32, "cpu")
    prompts = [e.prompt for e in (*task(0), *task(1))]
    found = encoder.encode(prompts)
    for prompt, vector in zip(prompts, found, strict=True):
        torch.testing.assert_close(vector, mean_hidden(snapshot, prompt, 0), atol=1e-5, rtol=1e-5)


def test_another_encoder_reads_the_text(snapshot, tmp_path):
    other = tiny_models.save_snapshot(tmp_path / "other", "gpt2", seed=3)
    tokenizer = tiny_models.tokenizer()
    prompt = tuple(tokenizer("Say the opposite.\n\nInput: hot\nOutput:")["input_ids"])
    encoder = PromptEncoder(f"path:{other}", 1, snapshot, tokenizer, torch.float32, "cpu")
    torch.testing.assert_close(
        encoder.encode([prompt])[0], mean_hidden(other, prompt, 1), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "path:/nowhere/at/all"}, "no config.json"),
        ({"encoder": "roberta-base"}, "allowed are self, path:<folder>, hf:<id>@<revision>"),
        ({"encoder": "hf:someone/something"}, "name a revision"),
        ({"encoder_layer": 3}, r"has 3 layers \(0-2\)"),
        ({"latent_layers": [1, 3]}, r"latent_layers names layer 3, .*layers \(0-2\)"),
        ({"segments": 5}, "does not divide the encoder's width of 48"),
    ],
)
def test_settings_that_do_not_fit_are_refused(snapshot, changes, message):
    with pytest.raises(UserError, match=message):
        build("jfa", stage_of(snapshot, **changes))


def test_a_damaged_pool_is_refused(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot))
    folder = finished(method, tmp_path / "first")
    (folder / "latent" / "slot03" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"slot03.*damaged or incomplete"):
        load_pool(folder)


# --- resuming


class Killed(Exception):
    pass


def trained(snapshot, folder, dies_at: int | None = None):
    """A second stage with dropout, latent tasks and flashbacks; killed before a step if asked to."""
    stage = stage_of(snapshot, past=past(), dropout=0.2)
    method, objective = build("jfa", stage)
    calls = []

    def dying(engine, batch, progress):
        if len(calls) == dies_at:
            raise Killed
        calls.append(progress)
        return objective(engine, batch, progress)

    dying.combine = objective.combine
    log = train_stage(method.stage.engine, method.batches(), dying, TRAINING, 3, folder)
    return method, log


def test_a_killed_stage_continues_and_ends_with_the_same_bits(snapshot, tmp_path):
    whole, log = trained(snapshot, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(snapshot, tmp_path / "killed", dies_at=3)
    resumed, again = trained(snapshot, tmp_path / "killed")
    pd.testing.assert_frame_equal(log, again)
    start = build("jfa", stage_of(snapshot))[0].stage.trainable["latent_tasks.up"]
    assert not torch.equal(start, whole.stage.trainable["latent_tasks.up"])
    for (name, a), b in zip(whole.stage.trainable.items(), resumed.stage.trainable.values(), strict=True):
        assert torch.equal(a, b), name
