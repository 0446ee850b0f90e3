"""Stages of training on a tiny model, in one process or in each of several, for comparison."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

import tiny_models
from anamnesis.core.artifacts import write_tensors
from anamnesis.core.errors import UserError
from anamnesis.engine.examples import Example, with_shared_prefix
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.models.adapters import add_lora, add_osf, save_adapter
from anamnesis.training.build import build
from anamnesis.training.controls import random_vectors
from anamnesis.training.guidance import norm
from anamnesis.training.loop import train_stage
from anamnesis.training.objectives import Objective
from anamnesis.training.stage import Stage
from anamnesis.training.world import join_world, shard_frozen_weights
from anamnesis.vectors.instruction import head_additions

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
TRAINING = {
    "epochs": 2,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "learning_rate": 0.01,
    "optimizer": "adamw_torch",
    "scheduler": "linear",
    "weight_decay": 0.01,
    "warmup_ratio": 0.0,
    "checkpoint_steps": 2,
}
KL = {"weight": 0.3, "positions": "all", "direction": "student_teacher", "temperature": 2.0}
GUIDANCE = {"schedule": "linear", "plateau": 0.25, "intervention": True}
LWF = {**KL, "positions": "output", "temperature_squared": True, "reduction": "mean"}
FVG = {"consistency": 0.3, "kl_last": 0.2, "kl_all": 0.1, "temperature": 2.0, "layer": None, "gates": False}
KL_BASE = {
    "weight": 0.3, "positions": "output", "direction": "teacher_student", "temperature": 1.0,
    "token_weights": True,
}  # fmt: skip
EWC = {"strength": 50.0, "fisher_examples": 3, "merge": "sum", "decay": 0.9}

JFA = {
    "flashbacks": 4, "alpha": 0.7, "reduction": "mean", "divergence": "symmetric", "latent_tasks": True,
    "pool": 5, "nearest": 2, "segments": 4, "centred": True, "latent_rank": 2, "latent_layers": None,
    "encoder": "self",
    "encoder_layer": None, "projection": "pcgrad",
}  # fmt: skip

# name -> (method, its settings, the teacher of guided training, whether the frozen weights are shared out)
CASES = {
    "plain": ("inclora", {}, None, False),
    "guided by the model before": ("inclora", {}, "previous", False),
    "guided by the current model": ("seqlora", {}, "current", False),
    "ewc": ("ewc", EWC, None, False),
    "lwf": ("lwf", LWF, None, False),
    "joint": ("joint", {}, None, False),
    "kl-base": ("kl-base", KL_BASE, None, False),
    "olora": ("olora", {"lambda1": 0.5, "lambda2": 0.1}, None, False),
    "osf": ("osf", {}, None, False),
    "replay": ("replay", {"share": 0.6, "when": "mixed"}, None, False),
    "fvg": ("fvg", FVG, None, False),
    "jfa": ("jfa", {**JFA, "flashbacks_per_step": 3}, None, False),
    "jfa, one flashback": ("jfa", {**JFA, "flashbacks_per_step": 1, "projection": "released"}, None, False),
    "guided, shared out": ("inclora", {}, "previous", True),
    "ewc, shared out": ("ewc", EWC, None, True),
    "guided, half of a batch": ("inclora", {}, "previous", False),
    "jfa, shared out": ("jfa", {**JFA, "flashbacks_per_step": 1, "latent_tasks": False}, None, True),
}
SHARES = {"guided, half of a batch": 0.5}  # of the examples that are guided, where it is not all


def task(seed: int, new: bool = True) -> list[Example]:
    """Nine examples, so that the last batch of an epoch has one."""
    lengths = [(9, 3), (5, 2), (12, 1), (7, 2), (4, 4), (10, 1), (6, 2), (8, 3), (5, 1)]
    texts = []
    for i, (prompt, answer) in enumerate(lengths):
        tokens = tiny_models.token_ids(100 * seed + i, prompt + answer)[0]
        texts.append(((40 + seed, 17, *tokens[:prompt]), tuple(tokens[prompt:])))
    return with_shared_prefix(texts, new)


def write_earlier(folder: Path) -> Path:
    """What a stage before left behind: an adapter, and the state of EWC."""
    model = add_lora(tiny_models.build("llama"), LORA, 5)
    save_adapter(model, folder, "tiny", [])
    noise, state = torch.Generator().manual_seed(1), {"rest": torch.tensor(0.5)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            state[f"fisher.{name}"] = torch.rand(p.shape, generator=noise)
            state[f"centre.{name}"] = 0.1 * torch.randn(p.shape, generator=noise)
    write_tensors(folder / "state.safetensors", state)
    return folder


def stage_of(world, snapshot: Path, earlier: Path, method: str, settings, sharded=False, dropout=0.0):
    model = tiny_models.build("llama")
    if method == "osf":
        model = add_osf(model, LORA["target_modules"], 0.5)
    else:
        model = add_lora(model, {**LORA, "dropout": dropout}, 7)
    engine = PrefixEngine(model.to(world.device or "cpu").train())
    world = replace(world, sharded=sharded)
    with world.in_turn():
        shard_frozen_weights(engine, world)
    past = {"first": task(1, new=False), "second": task(2, new=False)}
    return Stage(
        engine, tiny_models.tokenizer(), 2 if method in ("ewc", "olora") else 1, task(0), settings, TRAINING,
        seed=3, batch_tokens=80, past=past, earlier=[earlier] if method in ("ewc", "olora") else [],
        selected=[(0, 1), (2, 3)], theta=torch.linspace(-1, 1, 48), snapshot=snapshot, world=world,
    )  # fmt: skip


def prepared(stage: Stage, method: str, teacher: str | None, share: float = 1.0):
    guidance = additions = None
    if teacher:
        guidance = {**GUIDANCE, "share": share, "kl": {**KL, "teacher": teacher, "reduction": "sum"}}
        vector = torch.linspace(-0.5, 0.5, 48).view(4, 12)
        additions = {0: vector, 2: -vector}
    return build(method, stage, guidance, additions)


def weights(model) -> dict:
    found = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    return {name: p.cpu().numpy().copy() for name, p in found.items()}


def train_case(world, name: str, snapshot: Path, earlier: Path, folder: Path) -> dict:
    method, settings, teacher, sharded = CASES[name]
    stage = stage_of(world, snapshot, earlier, method, settings, sharded)
    chosen, objective = prepared(stage, method, teacher, SHARES.get(name, 1.0))
    # Adam makes steps of one size of the smallest gradients, rounding included; elsewhere steps are gradients
    plain = {"gradient_accumulation": 3} if name == "plain" else {"optimizer": "torch.optim.SGD"}
    training = {**TRAINING, "learning_rate": 0.05, **plain}
    log = train_stage(chosen.stage.engine, chosen.batches(), objective, training, 3, folder / name)
    state = {key: value.cpu().numpy().copy() for key, value in chosen.finish().items()}
    return {"log": log.to_dict("list"), "weights": weights(stage.engine.model), "state": state}


class Disturbed(Objective):
    """The answer loss; at a step the process of a rank does something else as well."""

    def __init__(self, world, step: int, rank: int, act):
        super().__init__()
        self.world, self.step, self.rank, self.act = world, step, rank, act

    def __call__(self, engine, batch, progress):
        if round(progress * 6) == self.step and self.world.rank == self.rank:
            self.act()
        return super().__call__(engine, batch, progress)


class Killed(Exception):
    pass


def fail_everywhere():
    raise Killed


def told_to_end():
    os.kill(os.getpid(), signal.SIGTERM)


def continue_case(world, snapshot: Path, earlier: Path, folder: Path) -> dict:
    """With dropout: a stage without interruption, one that fails in all processes, one of which a single
    process is told to end; and the weights after both have gone on.
    """
    found = {}
    nothing = Disturbed(world, -1, 0, None)
    failing = Disturbed(world, 3, world.rank, fail_everywhere)
    told = Disturbed(world, 2, world.size - 1, told_to_end)
    for name, objectives in {
        "whole": [nothing],
        "failed": [failing, nothing],
        "told": [told, nothing],
    }.items():
        for objective in objectives:
            stage = stage_of(world, snapshot, earlier, "inclora", {}, dropout=0.3)
            chosen, _ = build("inclora", replace(stage, examples=task(0)))
            try:
                log = train_stage(stage.engine, chosen.batches(), objective, TRAINING, 3, folder / name)
            except (Killed, UserError) as error:
                found[f"{name}: said"] = str(error)
        found[name] = {"log": log.to_dict("list"), "weights": weights(stage.engine.model)}
    return found


def run_cases(snapshot: Path, earlier: Path, folder: Path, device: str = "cpu") -> dict:
    """All of the above in this process, alone (then nothing is interrupted) or as one of several."""
    torch.set_num_threads(1)
    world = join_world(device)
    found = {name: train_case(world, name, snapshot, earlier, folder) for name in CASES}
    if world.size > 1:
        found["continued"] = continue_case(world, snapshot, earlier, folder)
    return found


def layers_kept_whole() -> int:
    """Layers of shared-out weights that this process has whole after a forward pass."""
    world = replace(join_world("cpu"), sharded=True)
    engine = PrefixEngine(add_lora(tiny_models.build("llama"), LORA, 7).train())
    shard_frozen_weights(engine, world)
    engine.model(input_ids=torch.tensor([[1, 2, 3]]))
    layers = engine.geometry.blocks
    return sum(not any(isinstance(p, DTensor) for p in layer.parameters()) for layer in layers)


def written_by_heads(divided: bool) -> float:
    """The length of what random vectors write, in one process or in each of several that divide a model."""
    world = replace(join_world("cpu"), sharded=divided)
    engine = PrefixEngine(add_lora(tiny_models.build("llama"), {**LORA, "target_modules": ["o_proj"]}, 7))
    shard_frozen_weights(engine, world)
    mean = torch.linspace(-1, 1, 3 * 48).view(3, 4, 12)
    heads = [(0, 1), (2, 3)]
    drawn = random_vectors(engine.geometry, mean, heads, torch.Generator().manual_seed(1))
    return norm(engine.geometry, head_additions(engine.geometry, drawn, heads))
