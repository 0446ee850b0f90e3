"""Stages of joint flashback adaptation on a tiny model, and references of one plain forward a prompt."""

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div

import tiny_models
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora
from anamnesis.models.loading import load_model, merge_adapters
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
    "centred": True,
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


def task(seed: int, new: bool = True) -> list[Example]:
    """Four examples of one task, whose prompts begin alike."""
    texts = []
    for i, (prompt, answer) in enumerate([(9, 3), (5, 2), (12, 1), (7, 2)]):
        tokens = tiny_models.token_ids(100 * seed + i, prompt + answer)[0]
        texts.append(((40 + seed, 17, *tokens[:prompt]), tuple(tokens[prompt:])))
    return with_shared_prefix(texts, new)


def past() -> dict[str, list[Example]]:
    return {"first": task(1, new=False), "second": task(2, new=False)}


def stage_of(snapshot, earlier=(), past=None, dropout: float = 0.0, **changes) -> Stage:
    model, tokenizer = load_model(snapshot, device="cpu")
    model = add_lora(merge_adapters(model, earlier), {**LORA, "dropout": dropout}, 7)
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
        shares = plain_shares(mean_hidden(snapshot, example.prompt) - pool.centre, pool.keys, pool.nearest)
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
