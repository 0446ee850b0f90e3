"""nnsight 0.8: one trace for each layer, with an invoke for each of its heads."""

import torch
from nnsight import TransformersModel


def load(folder):
    options = {"dispatch": True, "device_map": "cpu", "dtype": torch.float32}
    model = TransformersModel(str(folder), task="text-generation", **options)
    model.tokenizer.padding_side = "left"
    return model


def mean_activations(model, prompts, targets):
    config = model.config
    with torch.no_grad(), model.trace(prompts, logits_to_keep=1):
        found = list().save()
        for layer in model.model.layers:
            found.append(layer.self_attn.o_proj.input[:, -1])
    shape = (len(prompts), config.num_attention_heads, config.head_dim)
    return torch.stack([x.reshape(shape).mean(0) for x in found])


def causal_effects(model, prompts, targets, mean):
    size, n_heads = model.config.head_dim, model.config.num_attention_heads
    rows, targets = torch.arange(len(prompts)), torch.tensor(targets)
    with torch.no_grad(), model.trace(prompts, logits_to_keep=1):
        clean = model.lm_head.output[:, -1].softmax(-1)[rows, targets].save()
    effect = torch.zeros(len(prompts), len(mean), n_heads)
    for number in range(len(mean)):
        with torch.no_grad(), model.trace(logits_to_keep=1) as tracer:
            patched = list().save()
            for head in range(n_heads):
                with tracer.invoke(prompts):
                    part = slice(head * size, (head + 1) * size)
                    model.model.layers[number].self_attn.o_proj.input[:, -1, part] = mean[number, head]
                    patched.append(model.lm_head.output[:, -1].softmax(-1)[rows, targets])
        effect[:, number] = torch.stack(patched, 1) - clean[:, None]
    return effect


def function_vector(model, mean, effect):
    size, vector = model.config.head_dim, torch.zeros(model.config.hidden_size)
    for place in effect.mean(0).flatten().topk(10).indices.tolist():
        layer, head = divmod(place, mean.shape[1])
        weight = model.model.layers[layer].self_attn.o_proj.weight.detach()
        vector += weight[:, head * size : (head + 1) * size] @ mean[layer, head]
    return vector


def accuracy_by_layer(model, prompts, targets, vector):
    found, targets = [], torch.tensor(targets)
    for layer in model.model.layers:
        with torch.no_grad(), model.trace(prompts, logits_to_keep=1):
            layer.output[:, -1] += vector
            predicted = model.lm_head.output[:, -1].argmax(-1).save()
        found.append((predicted == targets).double().mean())
    return torch.stack(found)


def steer(model, prompts, vector, layer):
    with torch.no_grad(), model.generate(max_new_tokens=20, do_sample=False) as tracer:
        with tracer.invoke(prompts):
            for _ in tracer.iter[1:20]:
                model.model.layers[layer].output[:] += vector
        with tracer.invoke():
            ids = tracer.result.save()
    return model.tokenizer.batch_decode(ids[:, -20:], skip_special_tokens=True)
