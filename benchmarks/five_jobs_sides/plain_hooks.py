"""Plain hooks: the passes of the code of Todd et al. (2024): one prompt, one head at a time, all logits."""

from contextlib import contextmanager

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def last_logits(model, tokenizer, prompt):
    return model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]


@contextmanager
def hooked(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def mean_activations(tool, prompts, targets):
    model, tokenizer = tool
    shape, found = (model.config.num_attention_heads, model.config.head_dim), []
    for prompt in prompts:
        layers = []

        def keep(module, args, layers=layers):
            layers.append(args[0][0, -1].reshape(shape))

        projections = [layer.self_attn.o_proj for layer in model.model.layers]
        with hooked([projection.register_forward_pre_hook(keep) for projection in projections]):
            last_logits(model, tokenizer, prompt)
        found.append(torch.stack(layers))
    return torch.stack(found).mean(0)


@torch.no_grad()
def causal_effects(tool, prompts, targets, mean):
    (model, tokenizer), size = tool, tool[0].config.head_dim
    effect = torch.zeros(len(prompts), *mean.shape[:2])
    for number, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        clean = last_logits(model, tokenizer, prompt).softmax(-1)[target]
        for layer in range(effect.shape[1]):
            for head in range(effect.shape[2]):

                def patch(module, args, layer=layer, head=head):
                    args[0][0, -1, head * size : (head + 1) * size] = mean[layer, head]

                projection = model.model.layers[layer].self_attn.o_proj
                with hooked([projection.register_forward_pre_hook(patch)]):
                    patched = last_logits(model, tokenizer, prompt).softmax(-1)[target]
                effect[number, layer, head] = patched - clean
    return effect


@torch.no_grad()
def function_vector(tool, mean, effect):
    model, vector = tool[0], torch.zeros(tool[0].config.hidden_size)
    for place in effect.mean(0).flatten().topk(10).indices.tolist():
        layer, head = divmod(place, mean.shape[1])
        output = torch.zeros_like(mean[layer])
        output[head] = mean[layer, head]
        vector += model.model.layers[layer].self_attn.o_proj(output.flatten())
    return vector


@torch.no_grad()
def accuracy_by_layer(tool, prompts, targets, vector):
    (model, tokenizer), found = tool, []

    def add(module, args, output):
        output[:, -1] += vector

    for layer in model.model.layers:
        right = 0
        for prompt, target in zip(prompts, targets, strict=True):
            with hooked([layer.register_forward_hook(add)]):
                right += int(last_logits(model, tokenizer, prompt).argmax()) == target
        found.append(right / len(prompts))
    return torch.tensor(found)


@torch.no_grad()
def steer(tool, prompts, vector, layer):
    (model, tokenizer), texts = tool, []

    def add(module, args, output):
        return output + vector if output.shape[1] == 1 else output

    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        with hooked([model.model.layers[layer].register_forward_hook(add)]):
            ids = model.generate(**inputs, max_new_tokens=20, do_sample=False)
        new = ids[0, inputs.input_ids.shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    return texts
