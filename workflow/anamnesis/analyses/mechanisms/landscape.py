"""The loss of a chain's first task, as later tasks are learnt: its curvature and a slice through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from anamnesis.analyses.mechanisms.columns import BASE, LANDSCAPE, SLICED, TRAINED
from anamnesis.analyses.mechanisms.curvature import Hessian, Loss, filter_direction, loss_slice, probe_loss
from anamnesis.analyses.mechanisms.probes import Probe
from anamnesis.analyses.mechanisms.watching import projection_layers
from anamnesis.core.errors import UserError
from anamnesis.data.prompts import generator
from anamnesis.engine.modes import evaluation_mode
from anamnesis.engine.prefix_engine import PrefixEngine


def followed_probe(probes: Sequence[Probe], name: str, examples: int) -> Probe:
    """One probe of the first ``examples`` examples of a set (all, if there are fewer)."""
    chosen = [e for probe in probes if probe.name == name for e in probe.examples]
    return replace(probes[0], name=name, examples=tuple(chosen[:examples]))


def trained_curvature(engine: PrefixEngine, probe: Probe, settings: Mapping, seed: int) -> pd.DataFrame:
    """Curvature in the weights that require gradients: those of an open adapter."""
    weights = [p for p in engine.model.parameters() if p.requires_grad]
    with evaluation_mode(engine.model):
        return _curvature(probe_loss(engine, probe), weights, probe, TRAINED, settings, seed)


def base_landscape(
    engine: PrefixEngine, probe: Probe, names: Sequence[str], settings: Mapping, seed: int
) -> pd.DataFrame:
    """Curvature in the matrices ``names`` of one layer, and a slice along all layers' matrices of that name.

    The direction of the slice is the same for every model, up to the length of its rows. Raises UserError for
    a layer the model does not have.
    """
    layers = projection_layers(engine, names)
    layer = chosen_layer(engine.geometry.n_layers, settings["layer"])
    loss = probe_loss(engine, probe)
    inside = [layers[layer, name].weight for name in names]
    everywhere = [module.weight for module in layers.values()]
    steps = np.linspace(-settings["radius"], settings["radius"], settings["points"])
    with evaluation_mode(engine.model):
        with only_trainable(engine.model, inside):
            found = _curvature(loss, inside, probe, BASE, settings, seed)
        direction = filter_direction(everywhere, generator(seed, probe.name, "slice"))
        values = loss_slice(loss, everywhere, direction, steps)
    rows = [
        (probe.name, SLICED, "loss", step, v, len(probe.examples))
        for step, v in zip(steps, values, strict=True)
    ]
    return pd.concat([found, pd.DataFrame(rows, columns=list(LANDSCAPE))], ignore_index=True)


def chosen_layer(n_layers: int, layer: int | None) -> int:
    """The middle layer for None. Raises UserError for a layer the model does not have."""
    if layer is None:
        return n_layers // 2
    if layer >= n_layers:
        raise UserError(
            f"mechanisms.curvature.layer = {layer}: the model has {n_layers} layers; give one of 0 to "
            f"{n_layers - 1}, or null"
        )
    return layer


@contextmanager
def only_trainable(model: nn.Module, weights: Sequence[torch.Tensor]) -> Iterator[None]:
    """Gradients for ``weights`` only; afterwards each weight is as it was."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for p, required in before:
            p.requires_grad_(required)


def _curvature(loss: Loss, weights, probe: Probe, name: str, settings: Mapping, seed: int) -> pd.DataFrame:
    rng = generator(seed, probe.name, "curvature", name)
    hessian = Hessian(loss, weights)
    value, products = hessian.largest(settings["tolerance"], rng)
    trace, error = hessian.trace(settings["vectors"], rng)
    with torch.no_grad():
        level = float(loss())
    found = {
        "loss": level, "eigenvalue": value, "trace": trace, "trace_error": error, "products": products,
        "size": hessian.size,
    }  # fmt: skip
    rows = [(probe.name, name, key, np.nan, float(v), len(probe.examples)) for key, v in found.items()]
    return pd.DataFrame(rows, columns=list(LANDSCAPE))
