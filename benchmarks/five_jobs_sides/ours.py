"""Anamnesis."""

import torch

from anamnesis.data.encoding import encode
from anamnesis.engine.scoring import Question
from anamnesis.models.loading import load_frozen
from anamnesis.study import Effects, PrefixEngine, instruction_vector, intervene, steered
from anamnesis.study import causal_effects as sweep
from anamnesis.study import mean_head_activations as average

BATCH = 2048  # tokens


def load(folder):
    model, tokenizer = load_frozen(folder, device="cpu")
    return PrefixEngine(model), tokenizer


def questions(tokenizer, prompts, targets):
    return [Question(ids, [[y]]) for ids, y in zip(encode(tokenizer, prompts), targets, strict=True)]


def mean_activations(tool, prompts, targets):
    engine, tokenizer = tool
    return average(engine, questions(tokenizer, prompts, targets), BATCH).mean


def causal_effects(tool, prompts, targets, mean):
    engine, tokenizer = tool
    names = [f"{i:03}" for i in range(len(prompts))]
    table = sweep(engine, questions(tokenizer, prompts, targets), names, mean, BATCH)
    return torch.tensor(Effects({"task": table}).values)


def function_vector(tool, mean, effect):
    top = effect.mean(0).flatten().topk(10).indices.tolist()
    heads = [divmod(place, mean.shape[1]) for place in top]
    return instruction_vector(tool[0].geometry, mean, heads)


def accuracy_by_layer(tool, prompts, targets, vector):
    engine, tokenizer = tool
    asked, layers = questions(tokenizer, prompts, targets), range(engine.geometry.n_layers)
    vectors = vector.expand(len(asked), 1, -1)
    changed, _ = intervene(engine, asked, vectors, layers, BATCH)
    return changed[0].double().mean(-1)


def steer(tool, prompts, vector, layer):
    engine, tokenizer = tool
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    with steered(engine.model, vector, layer, positions="generated"):
        ids = engine.model.generate(**inputs, max_new_tokens=20, do_sample=False)
    return tokenizer.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
