"""All measures of one model, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from anamnesis.analyses.mechanisms.disruption import disruption_frame, routing_frame
from anamnesis.analyses.mechanisms.gradients import grams, interference_frame
from anamnesis.analyses.mechanisms.probes import Observation, Probe, observe
from anamnesis.analyses.mechanisms.representation_drift import drift_frame
from anamnesis.analyses.mechanisms.watching import projection_layers
from anamnesis.engine.prefix_engine import PrefixEngine


def measure(
    engine: PrefixEngine, probes: Sequence[Probe], matrices: Sequence[str], batch_tokens: int
) -> tuple[Observation, dict[str, pd.DataFrame]]:
    """What was seen, and the tables that need one model only: ``gradients`` (``gradients.COLUMNS``),
    ``similarity`` (set, other, layer, hidden) and ``losses`` (set, loss, n).
    """
    observation = observe(engine, probes, matrices, batch_tokens)
    layers = projection_layers(engine, matrices)
    outputs = {
        layer: name
        for (layer, name), module in layers.items()
        if module is engine.geometry.projections[layer]
    }
    found = grams(observation, engine.geometry, outputs)
    names = [probe.name for probe in probes]
    tables = {
        "gradients": interference_frame(found, names),
        "similarity": similarity_frame(observation.states.numpy(), example_names(probes)),
        "losses": losses_frame(observation.loss.numpy(), probes),
    }
    return observation, tables


def changes(
    before: Mapping[str, torch.Tensor], now: Observation, probes: Sequence[Probe], subspace: int
) -> dict[str, pd.DataFrame]:
    """What changed between two models on the same probes: ``drift``, ``heads`` and ``routing``.

    ``before``: what :func:`kept` made of the first model.
    """
    names = example_names(probes)
    first, second = ({key: t.numpy() for key, t in seen.items()} for seen in (before, kept(now)))
    return {
        "drift": drift_frame(first["states"], second["states"], names, subspace),
        "heads": disruption_frame(*((seen["attention"], seen["heads"]) for seen in (first, second)), names),
        "routing": routing_frame(first.get("loads"), second.get("loads")),
    }


def kept(observation: Observation) -> dict[str, torch.Tensor]:
    """What a later model is compared with."""
    found = {name: getattr(observation, name) for name in ("states", "heads", "attention", "loads")}
    return {name: value for name, value in found.items() if value is not None}


def example_names(probes: Sequence[Probe]) -> list[str]:
    """The set of each example."""
    return [probe.name for probe in probes for _ in probe.examples]


def similarity_frame(states: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Cosine of the mean hidden states of each pair of sets, at the middle layer, one row per ordered pair.

    ``states`` (n_layers, N, hidden_size). The mean over all sets is taken off first: without that, all
    cosines are close to 1, as hidden states share a large common part.
    """
    layer, groups = len(states) // 2, np.asarray(names)
    sets = list(dict.fromkeys(names))
    means = np.stack([states[layer, groups == name].astype(np.float64).mean(0) for name in sets])
    means -= means.mean(0)
    lengths = np.linalg.norm(means, axis=1)
    cosines = np.divide(
        means @ means.T, np.outer(lengths, lengths), where=np.outer(lengths, lengths) > 0,
        out=np.full((len(sets),) * 2, np.nan),
    )  # fmt: skip
    rows = [(a, b, layer, cosines[i, j]) for i, a in enumerate(sets) for j, b in enumerate(sets) if i != j]
    return pd.DataFrame(rows, columns=["set", "other", "layer", "hidden"])


def losses_frame(losses: np.ndarray, probes: Sequence[Probe]) -> pd.DataFrame:
    """Mean cross-entropy per answer token of each set, in nats: the mean over its probes."""
    frame = pd.DataFrame(
        {"set": [p.name for p in probes], "loss": losses, "n": [len(p.examples) for p in probes]}
    )
    return frame.groupby("set", sort=False).agg(loss=("loss", "mean"), n=("n", "sum")).reset_index()
