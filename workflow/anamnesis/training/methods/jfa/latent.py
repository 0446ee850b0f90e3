"""Latent tasks in training: a pool that is new in the first stage and goes through all others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from anamnesis.core.errors import UserError, given
from anamnesis.engine.examples import Example
from anamnesis.engine.heads import HeadGeometry
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from anamnesis.training.methods.jfa.latent_files import load_pool
from anamnesis.training.methods.jfa.latent_tasks import LatentEngine, LatentPool
from anamnesis.training.stage import Stage

log = logging.getLogger(__name__)


def with_latent_tasks(stage: Stage, others: Sequence[Example]) -> tuple[Stage, list[Example]]:
    """The stage, and other prompts it trains on, with latent tasks.

    The pool becomes the submodule ``latent_tasks`` of the stage's model, so that it is trained, saved in
    checkpoints and put back with everything else. Prompts share no prefix: each retrieves by all its tokens.
    """
    model, settings, engine = stage.engine.model, stage.settings, stage.engine
    examples, others = ([replace(e, prefix_length=0) for e in part] for part in (stage.examples, others))
    encoder = PromptEncoder(
        settings["encoder"],
        settings["encoder_layer"],
        given(stage.snapshot, "the folder of the model before training"),
        stage.tokenizer,
        next(model.parameters()).dtype,
        engine.device,
    )
    prompts = list(dict.fromkeys(e.prompt for e in examples))
    queries = encoder.encode(prompts)
    if stage.earlier:
        pool, _ = load_pool(stage.earlier[-1])
    else:
        centre = queries.mean(0) if settings["centred"] else torch.zeros(queries.shape[1])
        seed = int(stage.random("latent").integers(2**31))
        pool = new_pool(engine.geometry, centre, settings, seed)
    model.latent_tasks = pool.to(engine.device)
    latent = LatentEngine(model, pool, encoder, branch_tokens=1, geometry=engine.geometry)
    latent.retrieve(prompts, queries)
    latent.prepare([e.prompt for e in others])
    _say_retrieved(latent.retrieved(prompts), len(prompts), settings, first=not stage.earlier)
    return replace(stage, engine=latent, examples=examples), others


def _say_retrieved(slots: Sequence[int], prompts: int, settings: Mapping, first: bool) -> None:
    """A later task may have slots of its own; were those of the first all alike, so would be all others."""
    log.info("latent tasks: %d of %d are retrieved by %d prompts", len(slots), settings["pool"], prompts)
    if first and len(slots) == settings["nearest"] < settings["pool"] and prompts > 1:
        log.warning(
            "all %d prompts retrieve the same %d latent tasks, as if there were no others: set "
            "methods.jfa.centred to true, or name another methods.jfa.encoder or encoder_layer",
            prompts,
            len(slots),
        )


def new_pool(geometry: HeadGeometry, centre: torch.Tensor, settings: Mapping, seed: int) -> LatentPool:
    """``centre`` (width of the encoder): see ``LatentPool``.

    Keys are orthogonal within each segment; of the increments one factor is drawn as LoRA's first is and the
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
    slots, rank, segments, width = (
        settings["pool"],
        settings["latent_rank"],
        settings["segments"],
        len(centre),
    )
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
    return LatentPool(keys, centre, down, up, layers, settings["nearest"])
