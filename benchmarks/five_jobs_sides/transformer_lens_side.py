"""TransformerLens 4.3: hooks on hook_z and on the residual stream."""

import torch
from transformer_lens.model_bridge import TransformerBridge

LEFT = {"prepend_bos": False, "padding_side": "left"}


def load(folder):
    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


@torch.no_grad()
def mean_activations(model, prompts, targets):
    _, cache = model.run_with_cache(prompts, names_filter=lambda name: name.endswith("attn.hook_z"), **LEFT)
    return torch.stack([cache["z", layer][:, -1].mean(0) for layer in range(model.cfg.n_layers)])


@torch.no_grad()
def causal_effects(model, prompts, targets, mean):
    rows, targets = torch.arange(len(prompts)), torch.tensor(targets)

    def chance(logits):
        return logits[:, -1].softmax(-1)[rows, targets]

    clean, effect = chance(model(prompts, **LEFT)), torch.zeros(len(prompts), *mean.shape[:2])
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):

            def patch(z, hook, layer=layer, head=head):
                z[:, -1, head] = mean[layer, head]
                return z

            logits = model.run_with_hooks(prompts, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", patch)], **LEFT)
            effect[:, layer, head] = chance(logits) - clean
    return effect


@torch.no_grad()
def function_vector(model, mean, effect):
    places = effect.mean(0).flatten().topk(10).indices.tolist()
    heads = [divmod(place, mean.shape[1]) for place in places]
    return sum(mean[layer, head] @ model.W_O[layer, head] for layer, head in heads)


@torch.no_grad()
def accuracy_by_layer(model, prompts, targets, vector):
    found, targets = [], torch.tensor(targets)

    def add(stream, hook):
        stream[:, -1] += vector
        return stream

    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.hook_resid_post"
        logits = model.run_with_hooks(prompts, fwd_hooks=[(name, add)], **LEFT)
        found.append((logits[:, -1].argmax(-1) == targets).double().mean())
    return torch.stack(found)


def steer(model, prompts, vector, layer):
    def add(stream, hook):
        return stream + vector if stream.shape[1] == 1 else stream

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_post", add)]):
        ids = model.generate(
            prompts, max_new_tokens=20, do_sample=False, verbose=False, return_type="tokens", **LEFT
        )
    return model.tokenizer.batch_decode(ids[:, -20:], skip_special_tokens=True)
