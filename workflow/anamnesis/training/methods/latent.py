"""Latent tasks in training: a pool that is new in the first stage and goes through all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from anamnesis.errors import UserError
from anamnesis.models.encoder import PromptEncoder
from anamnesis.models.heads import HeadGeometry
from anamnesis.models.latent import LatentEngine, LatentPool
from anamnesis.models.latent_files import load_pool
from anamnesis.training.examples import Example
from anamnesis.training.stage import Stage


def joined(stage: Stage, others: Sequence[Example]) -> tuple[Stage, list[Example]]:
    """The stage, and other prompts it trains on, with latent tasks.

    The pool becomes the submodule ``latent_tasks`` of the stage's model, so that it is trained, saved in
    checkpoints and put back with everything else. Prompts share no stem: each retrieves by all its tokens.
    """
    model, settings, engine = stage.engine.model, stage.settings, stage.engine
    examples, others = ([replace(e, stem=0) for e in part] for part in (stage.examples, others))
    encoder = PromptEncoder(
        settings["encoder"],
        settings["encoder_layer"],
        stage.snapshot,
        stage.tokenizer,
        next(model.parameters()).dtype,
        engine.device,
    )
    if stage.earlier:
        pool, _ = load_pool(stage.earlier[-1])
    else:
        width = encoder.encode([examples[0].prompt]).shape[1]
        seed = int(stage.random("latent").integers(2**31))
        pool = new_pool(engine.geometry, width, settings, seed)
    model.latent_tasks = pool.to(engine.device)
    latent = LatentEngine(model, pool, encoder, branch_tokens=1, geometry=engine.geometry)
    latent.prepare([e.prompt for e in (*examples, *others)])
    return replace(stage, engine=latent, examples=examples), others


def new_pool(geometry: HeadGeometry, width: int, settings, seed: int) -> LatentPool:
    """Keys orthogonal within each segment; of the increments one factor is drawn as LoRA's first is and the
    other zero, so that they begin at zero and can be learnt.

    Raises UserError for layers the model does not have and a width the segments do not divide.
    """
    layers = settings["latent_layers"]
    layers = [geometry.n_layers // 2] if layers is None else list(layers)
    for layer in layers:
        if layer >= geometry.n_layers:
            raise UserError(
                f"methods.jfa.latent_layers names layer {layer}, but the model has {geometry.n_layers} "
                f"layers (0-{geometry.n_layers - 1}): choose from these, or null for the middle one"
            )
    slots, rank, segments = settings["pool"], settings["latent_rank"], settings["segments"]
    if width % segments:
        raise UserError(
            f"methods.jfa.segments is {segments}, which does not divide the encoder's width of {width}: "
            "choose a divisor of it"
        )
    generator = torch.Generator().manual_seed(seed)
    keys = torch.empty(segments, slots, width // segments)
    for segment in keys:
        nn.init.orthogonal_(segment, generator=generator)
    inputs = geometry.n_heads * geometry.head_dim
    down = torch.empty(len(layers), slots, rank, inputs)
    down.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
    up = torch.zeros(len(layers), slots, rank, geometry.hidden_size)
    return LatentPool(keys, down, up, layers, settings["nearest"])
