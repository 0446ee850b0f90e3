"""pyvene 0.1.8: a function in the place of an intervention, on any module's input or output."""

import pyvene
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokenizer


def intervened(model, change, *places):
    rules = [{"component": place, "intervention": change} for place in places]
    return pyvene.IntervenableModel(rules, model=model)


def encoded(tokenizer, prompts):
    return {**tokenizer(prompts, return_tensors="pt", padding=True), "logits_to_keep": 1}


@torch.no_grad()
def mean_activations(tool, prompts, targets):
    (model, tokenizer), found = tool, []
    shape = (len(prompts), model.config.num_attention_heads, model.config.head_dim)

    def keep(base, source):
        found.append(base[:, -1].reshape(shape).mean(0))
        return base

    places = [f"model.layers[{i}].self_attn.o_proj.input" for i in range(len(model.model.layers))]
    intervened(model, keep, *places)(encoded(tokenizer, prompts))
    return torch.stack(found)


@torch.no_grad()
def causal_effects(tool, prompts, targets, mean):
    (model, tokenizer), size = tool, tool[0].config.head_dim
    inputs, rows, targets = encoded(tokenizer, prompts), torch.arange(len(prompts)), torch.tensor(targets)
    clean = model(**inputs).logits[:, -1].softmax(-1)[rows, targets]
    effect = torch.zeros(len(prompts), *mean.shape[:2])
    for layer in range(effect.shape[1]):
        for head in range(effect.shape[2]):

            def patch(base, source, layer=layer, head=head):
                base[:, -1, head * size : (head + 1) * size] = mean[layer, head]
                return base

            patched = intervened(model, patch, f"model.layers[{layer}].self_attn.o_proj.input")
            _, output = patched(inputs)
            effect[:, layer, head] = output.logits[:, -1].softmax(-1)[rows, targets] - clean
    return effect


@torch.no_grad()
def function_vector(tool, mean, effect):
    model, size = tool[0], tool[0].config.head_dim
    vector = torch.zeros(model.config.hidden_size)
    for place in effect.mean(0).flatten().topk(10).indices.tolist():
        layer, head = divmod(place, mean.shape[1])
        weight = model.model.layers[layer].self_attn.o_proj.weight
        vector += weight[:, head * size : (head + 1) * size] @ mean[layer, head]
    return vector


@torch.no_grad()
def accuracy_by_layer(tool, prompts, targets, vector):
    (model, tokenizer), found, targets = tool, [], torch.tensor(targets)

    def add(base, source):
        base[:, -1] += vector
        return base

    for layer in range(len(model.model.layers)):
        changed = intervened(model, add, f"model.layers[{layer}].output")
        _, output = changed(encoded(tokenizer, prompts))
        found.append((output.logits[:, -1].argmax(-1) == targets).double().mean())
    return torch.stack(found)


@torch.no_grad()
def steer(tool, prompts, vector, layer):
    model, tokenizer = tool

    def add(base, source):
        return base + vector  # at new tokens only, which is what `generate` does unless told otherwise

    changed = intervened(model, add, f"model.layers[{layer}].output")
    inputs = encoded(tokenizer, prompts)
    _, ids = changed.generate(inputs, max_new_tokens=20, do_sample=False)
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
